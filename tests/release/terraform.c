/* Stands in for terraform and git in an empty root folder, where a server asks both for their versions. */
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv) {
    const char *name = strrchr(argv[0], '/');
    if (argc > 1 && strcmp(name != NULL ? name + 1 : argv[0], "git") == 0) {
        puts("git version 2.39.5");
    } else {
        puts("Terraform v1.9.0");
    }
    return 0;
}
