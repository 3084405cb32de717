import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import java.nio.charset.StandardCharsets;

/**
 * examples/c/take_lock.c by Java's own foreign functions (JDK 22 or newer), without a package:
 * {@code java --enable-native-access=ALL-UNNAMED TakeLock.java ./locks}
 *
 * <p>The loader finds libatlock.so.1 where {@code make install} put it; ATLOCK_LIBRARY names another file.
 */
public final class TakeLock implements AutoCloseable {
    private static final MemoryLayout BUFFER = MemoryLayout.structLayout(
        ValueLayout.ADDRESS.withName("data"), ValueLayout.JAVA_LONG.withName("len"), ValueLayout.JAVA_LONG.withName("capacity"));
    private static final Linker LINKER = Linker.nativeLinker();
    private static final SymbolLookup LIBRARY = SymbolLookup.libraryLookup(
        System.getenv().getOrDefault("ATLOCK_LIBRARY", "libatlock.so.1"), Arena.global());

    private static final MemoryLayout POINTER = ValueLayout.ADDRESS;
    private static final MemoryLayout SIZE = ValueLayout.JAVA_LONG;
    private static final MethodHandle OPEN = function("atlock_open", POINTER, SIZE, POINTER, POINTER, POINTER);
    private static final MethodHandle TRY_LOCK = function("atlock_try_lock", POINTER, POINTER, SIZE, POINTER, POINTER);
    private static final MethodHandle LIST_LOCKS = function("atlock_list_locks", POINTER, POINTER, POINTER);
    private static final MethodHandle CLOSE = function("atlock_close", POINTER, POINTER);
    private static final MethodHandle FREE = procedure("atlock_free");
    private static final MethodHandle BUFFER_FREE = procedure("atlock_buffer_free");
    private static final MethodHandle CODE_NAME = LINKER.downcallHandle(LIBRARY.findOrThrow("atlock_code_name"),
        FunctionDescriptor.of(ValueLayout.ADDRESS.withTargetLayout(MemoryLayout.sequenceLayout(64, ValueLayout.JAVA_BYTE)),
            ValueLayout.JAVA_INT));

    private final MemorySegment handle;

    private TakeLock(String folder) throws Throwable {
        String config = "locking: {backend: sled, data_dir: '" + folder.replace("'", "''") + "'}";
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment text = arena.allocateFrom(config), out = arena.allocate(POINTER), error = arena.allocate(BUFFER);
            check((int) OPEN.invoke(text, text.byteSize() - 1, MemorySegment.NULL, out, error), error);
            handle = out.get(ValueLayout.ADDRESS, 0);
        }
    }

    private String tryLock(String lock) throws Throwable {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment text = arena.allocateFrom(lock), answer = arena.allocate(BUFFER), error = arena.allocate(BUFFER);
            check((int) TRY_LOCK.invoke(handle, text, text.byteSize() - 1, answer, error), error);
            return take(answer);
        }
    }

    private String list() throws Throwable {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment answer = arena.allocate(BUFFER), error = arena.allocate(BUFFER);
            check((int) LIST_LOCKS.invoke(handle, answer, error), error);
            return take(answer);
        }
    }

    @Override
    public void close() throws Exception {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment error = arena.allocate(BUFFER);
            check((int) CLOSE.invoke(handle, error), error);
            FREE.invoke(handle);
        } catch (Exception failure) {
            throw failure;
        } catch (Throwable failure) {
            throw new IllegalStateException(failure);
        }
    }

    /** A function that returns a status. */
    private static MethodHandle function(String name, MemoryLayout... arguments) {
        return LINKER.downcallHandle(LIBRARY.findOrThrow(name), FunctionDescriptor.of(ValueLayout.JAVA_INT, arguments));
    }

    private static MethodHandle procedure(String name) {
        return LINKER.downcallHandle(LIBRARY.findOrThrow(name), FunctionDescriptor.ofVoid(POINTER));
    }

    /** The text of a buffer that the library filled, which gets it back. */
    private static String take(MemorySegment buffer) throws Throwable {
        MemorySegment data = buffer.get(ValueLayout.ADDRESS, 0).reinterpret(buffer.get(ValueLayout.JAVA_LONG, ValueLayout.ADDRESS.byteSize()));
        String text = new String(data.toArray(ValueLayout.JAVA_BYTE), StandardCharsets.UTF_8);
        BUFFER_FREE.invoke(buffer);
        return text;
    }

    private static void check(int code, MemorySegment error) throws Throwable {
        if (code != 0) {
            throw new IllegalStateException(((MemorySegment) CODE_NAME.invoke(code)).getString(0) + ": " + take(error));
        }
    }

    public static void main(String[] args) throws Throwable {
        if (args.length != 1) {
            System.err.println("usage: java TakeLock.java <folder for the locks>");
            System.exit(1);
        }
        String lock = """
            {"Project":{"RepoFullName":"acme/infra","Path":"network"},"Workspace":"default","Pull":{"Num":1}}""";
        try (TakeLock locks = new TakeLock(args[0])) {
            boolean taken = locks.tryLock(lock).startsWith("{\"acquired\":true");
            System.out.println(taken ? "took the lock of acme/infra, folder network, for pull request 1" : "the lock is held already");
            System.out.println("locks in the store: " + locks.list());
        }
    }
}
