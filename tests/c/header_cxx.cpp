// The header is C++ too.
#include "atlock.h"
#include "atlock.h"

#include <cstdio>
#include <string>

namespace {

const std::uint8_t *bytes(const std::string &text) {
    return reinterpret_cast<const std::uint8_t *>(text.data());
}

bool works() {
    const std::string config = "locking: {backend: sled, data_dir: locks}";
    const std::string lock =
        R"({"Project":{"ProjectName":"","RepoFullName":"acme/infra","Path":"."},"Pull":{"Num":1},"Workspace":"default"})";
    atlock_buffer out = ATLOCK_BUFFER_INIT, error = ATLOCK_BUFFER_INIT;
    atlock_spans spans = ATLOCK_SPANS_INIT;
    atlock *handle = nullptr;

    if (atlock_open(bytes("{"), 1, nullptr, &handle, &error) != ATLOCK_INVALID_CONFIG) return false;
    atlock_buffer_free(&error);
    if (atlock_open(bytes(config), config.size(), nullptr, &handle, &error) != ATLOCK_OK) return false;
    if (atlock_try_lock(handle, bytes(lock), lock.size(), &out, &error) != ATLOCK_OK) return false;
    atlock_buffer_free(&out);
    if (atlock_list(handle, &out, &spans, &error) != ATLOCK_OK || spans.len != 1) return false;
    const atlock_span first = spans.data[0];
    const bool same = lock == std::string(reinterpret_cast<char *>(out.data) + first.start, first.end - first.start);
    atlock_spans_free(&spans);
    atlock_buffer_free(&out);
    atlock_free(handle);
    return same;
}

}  // namespace

int main() {
    if (!works()) {
        std::fprintf(stderr, "header_cxx: failed\n");
        return 1;
    }
    return 0;
}
