/* Proof that undefined behaviour is looked for. */
#include "check.h"

int main(void) {
    volatile int largest = INT32_MAX;
    volatile int wrapped = largest + 1;
    (void)wrapped;
    return 0;
}
