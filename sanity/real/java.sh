#!/usr/bin/env bash
# java.sh -- a JVM: its start, and with a JDK a program with threads, collections, compression and direct buffers.
. "$(dirname "$0")/common.inc"
need java
flags=(-XX:+UseSerialGC -Xmx256m -XX:TieredStopAtLevel=1)
java -version >/dev/null 2>&1 || { echo "skip: java does not start here"; exit 77; }
preload_works java "${flags[@]}" -version
quiet_is_fine=1
same "java -version" java "${flags[@]}" -version
quiet_is_fine=0
if ! command -v javac >/dev/null; then
    echo "no JDK: only the start was tested"
    exit 0
fi
cat >Work.java <<'END'
import java.nio.ByteBuffer;
import java.util.*;
import java.util.concurrent.*;
import java.util.zip.*;

public class Work {
    public static void main(String[] args) throws Exception {
        Map<String, List<Integer>> map = new TreeMap<>();
        for (int i = 0; i < 100000; i++)
            map.computeIfAbsent("k" + i % 997, k -> new ArrayList<>()).add(i);
        System.out.println(map.values().stream().mapToLong(l -> l.stream().mapToLong(x -> x).sum()).sum());
        ExecutorService pool = Executors.newFixedThreadPool(8);
        List<Future<Long>> futures = new ArrayList<>();
        for (int t = 0; t < 16; t++) {
            final int n = t;
            futures.add(pool.submit(() -> {
                CRC32 crc = new CRC32();
                for (int i = 0; i < 60; i++) {
                    ByteBuffer direct = ByteBuffer.allocateDirect(10000 * (1 + i % 7));
                    while (direct.hasRemaining())
                        direct.put((byte) (n + i));
                    Deflater deflater = new Deflater();
                    byte[] out = new byte[2000];
                    direct.flip();
                    deflater.setInput(direct);
                    deflater.finish();
                    crc.update(out, 0, deflater.deflate(out));
                    deflater.end();
                }
                return crc.getValue();
            }));
        }
        for (Future<Long> f : futures)
            System.out.println(f.get());
        pool.shutdown();
    }
}
END
plain javac Work.java || fail "javac does not work without the library"
same "java with threads" java "${flags[@]}" Work
