/* Notes whom a process speaks to: preloaded, it writes "NAME TO" lines to the file $CONNECTS and lets the call go on.
   NAME is how the process was called, without its folder; TO an address, or a name that is looked up. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char *own_name(char *text, size_t room) {
    int file = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t length = file >= 0 ? read(file, text, room - 1) : 0;
    if (file >= 0) close(file);
    text[length > 0 ? length : 0] = 0;
    char *slash = strrchr(text, '/');
    return slash ? slash + 1 : text;
}

static void note(const char *to) {
    int kept = errno;
    const char *path = getenv("CONNECTS");
    char name[400], line[512];
    int file = path ? open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666) : -1;
    if (file >= 0) {
        int length = snprintf(line, sizeof line, "%.200s %.200s\n", own_name(name, sizeof name), to);
        if (write(file, line, length) < 0) abort();
        close(file);
    }
    errno = kept;
}

static void note_address(const struct sockaddr *to) {
    char text[INET6_ADDRSTRLEN] = "";
    if (to && to->sa_family == AF_INET)
        inet_ntop(AF_INET, &((const struct sockaddr_in *)to)->sin_addr, text, sizeof text);
    if (to && to->sa_family == AF_INET6)
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)to)->sin6_addr, text, sizeof text);
    if (*text) note(text);
}

int connect(int socket, const struct sockaddr *to, socklen_t length) {
    note_address(to);
    int (*next)(int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "connect");
    return next(socket, to, length);
}

ssize_t sendto(int socket, const void *data, size_t size, int flags, const struct sockaddr *to, socklen_t length) {
    note_address(to);
    ssize_t (*next)(int, const void *, size_t, int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "sendto");
    return next(socket, data, size, flags, to, length);
}

ssize_t sendmsg(int socket, const struct msghdr *message, int flags) {
    note_address(message->msg_name);
    ssize_t (*next)(int, const struct msghdr *, int) = dlsym(RTLD_NEXT, "sendmsg");
    return next(socket, message, flags);
}

int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    if (host) note(host);
    int (*next)(const char *, const char *, const struct addrinfo *, struct addrinfo **) =
        dlsym(RTLD_NEXT, "getaddrinfo");
    return next(host, service, hints, found);
}
