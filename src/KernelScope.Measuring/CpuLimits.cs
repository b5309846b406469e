using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using KernelScope.Cpu.MachineCode;

namespace KernelScope.Measuring;

/// <summary>What this machine can do, measured here and now: other programs share it, so a figure is only worth something beside a limit of the same minute.</summary>
/// <remarks>Any number of threads may call it.</remarks>
internal static unsafe class CpuLimits
{
    private const long FmaLoops = 3_000_000;
    private const long Bf16Loops = 3_000_000;
    private const double PartingSeconds = 0.005;

    /// <summary>Bytes per second that <paramref name="threads"/> threads read from memory much larger than the caches, each its part from end to end.</summary>
    public static double ReadBandwidth(byte* memory, long bytes, int threads)
    {
        long part = bytes / threads / 4096 * 4096;
        double seconds = Timed(threads, t => Read(memory + (t * part), part));
        return part * threads / seconds;
    }

    /// <summary>Float32 operations per second of multiply-adds that stay in registers.</summary>
    public static double Peak(int threads)
    {
        int lanes = Vector512.IsHardwareAccelerated ? 16 : 8;
        double seconds = Timed(threads, _ => lanes == 16 ? Fma512(FmaLoops) : Fma256(FmaLoops));
        return 2.0 * 12 * lanes * FmaLoops * threads / seconds;
    }

    /// <summary>
    /// Operations per second of bfloat16 products summed in float32 (<c>vdpbf16ps</c>) that stay in registers, by machine code assembled for this; null where the processor has no such instruction.
    /// </summary>
    public static double? Bf16Peak(int threads)
    {
        using Bf16Code? code = Bf16Code.TryCreate();
        if (code is null)
            return null;
        double seconds = Timed(threads, _ =>
        {
            code.RunPeakLoop(Bf16Loops);
            return 0;
        });
        return 2.0 * 32 * Bf16Assembly.LoopProducts * Bf16Loops * threads / seconds;
    }

    /// <summary>Seconds of the middle one of some turns, from when all threads have arrived to when all are done.</summary>
    /// <remarks>A new thread may share a core with the one that made it for a while: all spin together first, so that the scheduler parts them.</remarks>
    private static double Timed(int threads, Func<int, float> work)
    {
        const int Turns = 3;
        int arrived = 0;
        void Gather(int turn)
        {
            Interlocked.Increment(ref arrived);
            while (Volatile.Read(ref arrived) < turn * threads)
                Thread.SpinWait(1);
        }

        double Turn(int thread, int turn)
        {
            Gather((2 * turn) + 1);
            long start = Stopwatch.GetTimestamp();
            if (turn == 0)
                SpinFor(PartingSeconds);
            else
                work(thread);
            Gather((2 * turn) + 2);
            return Stopwatch.GetElapsedTime(start).TotalSeconds;
        }

        var started = new Thread[threads - 1];
        for (int t = 1; t < threads; t++)
        {
            int mine = t;
            started[t - 1] = new Thread(() =>
            {
                for (int turn = 0; turn <= Turns; turn++)
                    Turn(mine, turn);
            });
            started[t - 1].Start();
        }

        var seconds = new double[Turns];
        Turn(0, 0);
        for (int turn = 1; turn <= Turns; turn++)
            seconds[turn - 1] = Turn(0, turn);
        foreach (Thread thread in started)
            thread.Join();
        Array.Sort(seconds);
        return seconds[Turns / 2];
    }

    private static void SpinFor(double seconds)
    {
        long start = Stopwatch.GetTimestamp();
        while (Stopwatch.GetElapsedTime(start).TotalSeconds < seconds)
            Thread.SpinWait(1);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    private static float Read(byte* memory, long bytes)
    {
        Vector512<float> a = default, b = default, c = default, d = default;
        // Four streams at once: one alone leaves the memory idle between its prefetches.
        long part = bytes / 4;
        for (long i = 0; i + 64 <= part; i += 64)
        {
            a += Vector512.Load((float*)(memory + i));
            b += Vector512.Load((float*)(memory + part + i));
            c += Vector512.Load((float*)(memory + (2 * part) + i));
            d += Vector512.Load((float*)(memory + (3 * part) + i));
        }

        return Vector512.Sum(a + b + (c + d));
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    private static float Fma512(long loops)
    {
        Vector512<float> m = Vector512.Create(0.999f), s = Vector512.Create(1e-3f);
        Vector512<float> a = s, b = s, c = s, d = s, e = s, f = s, g = s, h = s, i = s, j = s, k = s, l = s;
        for (long n = 0; n < loops; n++)
        {
            a = Vector512.FusedMultiplyAdd(a, m, s);
            b = Vector512.FusedMultiplyAdd(b, m, s);
            c = Vector512.FusedMultiplyAdd(c, m, s);
            d = Vector512.FusedMultiplyAdd(d, m, s);
            e = Vector512.FusedMultiplyAdd(e, m, s);
            f = Vector512.FusedMultiplyAdd(f, m, s);
            g = Vector512.FusedMultiplyAdd(g, m, s);
            h = Vector512.FusedMultiplyAdd(h, m, s);
            i = Vector512.FusedMultiplyAdd(i, m, s);
            j = Vector512.FusedMultiplyAdd(j, m, s);
            k = Vector512.FusedMultiplyAdd(k, m, s);
            l = Vector512.FusedMultiplyAdd(l, m, s);
        }

        return Vector512.Sum(a + b + c + d + e + f + (g + h + i + j + k + l));
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    private static float Fma256(long loops)
    {
        Vector256<float> m = Vector256.Create(0.999f), s = Vector256.Create(1e-3f);
        Vector256<float> a = s, b = s, c = s, d = s, e = s, f = s, g = s, h = s, i = s, j = s, k = s, l = s;
        for (long n = 0; n < loops; n++)
        {
            a = Vector256.FusedMultiplyAdd(a, m, s);
            b = Vector256.FusedMultiplyAdd(b, m, s);
            c = Vector256.FusedMultiplyAdd(c, m, s);
            d = Vector256.FusedMultiplyAdd(d, m, s);
            e = Vector256.FusedMultiplyAdd(e, m, s);
            f = Vector256.FusedMultiplyAdd(f, m, s);
            g = Vector256.FusedMultiplyAdd(g, m, s);
            h = Vector256.FusedMultiplyAdd(h, m, s);
            i = Vector256.FusedMultiplyAdd(i, m, s);
            j = Vector256.FusedMultiplyAdd(j, m, s);
            k = Vector256.FusedMultiplyAdd(k, m, s);
            l = Vector256.FusedMultiplyAdd(l, m, s);
        }

        return Vector256.Sum(a + b + c + d + e + f + (g + h + i + j + k + l));
    }
}
