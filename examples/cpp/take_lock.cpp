/*
 * examples/c/take_lock.c in C++17: a buffer and a handle free themselves, and a failure is an exception.
 *
 *     c++ -std=c++17 take_lock.cpp $(pkg-config --cflags --libs atlock) -o take_lock
 *     ./take_lock ./locks
 */
#include <atlock.h>

#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>

namespace {

/* Bytes that the library allocated. */
class Buffer {
public:
    Buffer() = default;
    Buffer(const Buffer &) = delete;
    Buffer &operator=(const Buffer &) = delete;
    ~Buffer() { atlock_buffer_free(&buffer); }

    atlock_buffer *out() { return &buffer; }
    std::string_view text() const { return {reinterpret_cast<const char *>(buffer.data), buffer.len}; }

private:
    atlock_buffer buffer = ATLOCK_BUFFER_INIT;
};

const uint8_t *bytes(std::string_view text) { return reinterpret_cast<const uint8_t *>(text.data()); }

/* An open store. One thread or many may use it. */
class Locks {
public:
    explicit Locks(const std::string &folder) {
        const std::string config = "locking: {backend: sled, data_dir: '" + folder + "'}";
        atlock *opened = nullptr;
        Buffer error;
        check(atlock_open(bytes(config), config.size(), nullptr, &opened, error.out()), error);
        handle.reset(opened);
    }

    /* The answer is JSON: {"acquired":true,"token":…}, or {"acquired":false,"lock":…} with the holder's lock. */
    std::string try_lock(std::string_view lock) const {
        Buffer answer, error;
        check(atlock_try_lock(handle.get(), bytes(lock), lock.size(), answer.out(), error.out()), error);
        return std::string(answer.text());
    }

    /* A JSON array of locks. */
    std::string list() const {
        Buffer answer, error;
        check(atlock_list_locks(handle.get(), answer.out(), error.out()), error);
        return std::string(answer.text());
    }

    /* The destructor would close it, too, but could not tell a failure. */
    void close() const {
        Buffer error;
        check(atlock_close(handle.get(), error.out()), error);
    }

private:
    struct Free {
        void operator()(atlock *opened) const { atlock_free(opened); }
    };
    std::unique_ptr<atlock, Free> handle;

    static void check(int32_t code, const Buffer &error) {
        if (code != ATLOCK_OK) throw std::runtime_error(std::string(atlock_code_name(code)) + ": " + std::string(error.text()));
    }
};

constexpr std::string_view lock =
    R"({"Project":{"RepoFullName":"acme/infra","Path":"network"},"Workspace":"default","Pull":{"Num":1}})";

}  // namespace

int main(int argc, char **argv) try {
    if (argc != 2) {
        std::cerr << "usage: " << argv[0] << " <folder for the locks>\n";
        return 1;
    }
    const Locks locks(argv[1]);
    const std::string answer = locks.try_lock(lock);
    const bool taken = answer.rfind(R"({"acquired":true)", 0) == 0;
    std::cout << (taken ? "took the lock of acme/infra, folder network, for pull request 1" : "the lock is held already") << '\n';
    std::cout << "locks in the store: " << locks.list() << '\n';
    locks.close();
    return 0;
} catch (const std::exception &failure) {
    std::cerr << failure.what() << '\n';
    return 1;
}
