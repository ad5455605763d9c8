/* Resolves each argument as programs do, by the C library that this is linked with, and prints its addresses. */
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

int main(int count, char **names) {
    for (int i = 1; i < count; i++) {
        struct addrinfo hints, *all = NULL;
        memset(&hints, 0, sizeof hints);
        hints.ai_socktype = SOCK_STREAM;
        int error = getaddrinfo(names[i], NULL, &hints, &all);
        if (error)
            printf(" %s", error == EAI_NONAME ? "none" : gai_strerror(error));
        for (struct addrinfo *one = all; one; one = one->ai_next) {
            char text[128];
            getnameinfo(one->ai_addr, one->ai_addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST);
            printf(" %s", text);
        }
        printf("\n");
        if (all)
            freeaddrinfo(all);
    }
    return 0;
}
