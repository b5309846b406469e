using System.Runtime.InteropServices;
using KernelScope.PtxEmulator;

namespace KernelScope.Gpu.Tests.Emulator;

/// <summary>
/// Hand-written kernels of one shape: three buffers a, b, c and a number n. The prologue leaves %rd1 = a, %rd2 = b, %rd3 = c, %r1 = n, %r2 = thread in
/// block, %r3 = thread in grid, %rd4, %rd5, %rd6 = a, b, c + 4·%r3; the body begins with %r10, %rd10, %f1, %p1, %rs1, %fd1.
/// </summary>
internal sealed class PtxTest : IDisposable
{
    /// <summary>Marks the line at which a fault is expected.</summary>
    public const string Mark = "// !";

    public PtxTest(EmulatedGpuOptions? options = null) =>
        Gpu = new EmulatedGpu(options ?? new EmulatedGpuOptions { MemoryBytes = 1 << 24 });

    public EmulatedGpu Gpu { get; }

    public LaunchOptions Options { get; init; } = new();

    public Dim3 Grid { get; init; } = new(1);

    public Dim3 Block { get; init; } = new(32);

    public int DynamicShared { get; init; }

    public static string Text(string body, string declarations = "", string directives = "", string moduleLevel = "") => $$"""
        .version 7.8
        .target sm_80
        .address_size 64
        {{moduleLevel}}
        .visible .entry k(
            .param .u64 pa,
            .param .u64 pb,
            .param .u64 pc,
            .param .u32 pn
        ) {{directives}}
        {
            .reg .pred %p<16>;
            .reg .b16 %rs<32>;
            .reg .b32 %r<96>;
            .reg .b64 %rd<64>;
            .reg .f32 %f<64>;
            .reg .f64 %fd<16>;
            {{declarations}}
            ld.param.u64 %rd1, [pa];
            ld.param.u64 %rd2, [pb];
            ld.param.u64 %rd3, [pc];
            ld.param.u32 %r1, [pn];
            mov.u32 %r2, %tid.x;
            mov.u32 %r4, %ctaid.x;
            mov.u32 %r5, %ntid.x;
            mad.lo.u32 %r3, %r4, %r5, %r2;
            mul.wide.u32 %rd7, %r3, 4;
            add.u64 %rd4, %rd1, %rd7;
            add.u64 %rd5, %rd2, %rd7;
            add.u64 %rd6, %rd3, %rd7;
        {{body}}
            ret;
        }
        """;

    /// <summary>The line of the text that carries <see cref="Mark"/>.</summary>
    public static int MarkedLine(string text) => Array.FindIndex(text.Split('\n'), l => l.Contains(Mark, StringComparison.Ordinal)) + 1;

    public ulong Upload<T>(T[] values, string name)
        where T : unmanaged
    {
        ulong address = Gpu.Allocate(Math.Max(1, values.Length * Marshal.SizeOf<T>()), name);
        Gpu.Write(address, MemoryMarshal.AsBytes(values.AsSpan()));
        return address;
    }

    public T[] Download<T>(ulong address, int count)
        where T : unmanaged
    {
        var values = new T[count];
        Gpu.Read(address, MemoryMarshal.AsBytes(values.AsSpan()));
        return values;
    }

    public LaunchResult Run(string text, ulong a = 0, ulong b = 0, ulong c = 0, uint n = 0)
    {
        var parameters = new byte[28];
        BitConverter.TryWriteBytes(parameters.AsSpan(0), a);
        BitConverter.TryWriteBytes(parameters.AsSpan(8), b);
        BitConverter.TryWriteBytes(parameters.AsSpan(16), c);
        BitConverter.TryWriteBytes(parameters.AsSpan(24), n);
        return Gpu.Launch(PtxModule.Parse(text, "test.ptx").Kernel("k"), Grid, Block, DynamicShared, parameters, Options);
    }

    /// <summary>Runs one instruction on 32-bit values: d = op(a, b, c), one lane a value.</summary>
    public static uint[] Map32(string instruction, uint[] a, uint[]? b = null, uint[]? c = null)
    {
        using var test = new PtxTest { Grid = new Dim3((a.Length + 31) / 32) };
        int padded = (a.Length + 31) / 32 * 32;
        uint[] Pad(uint[]? values) => [.. (values ?? []), .. new uint[padded - (values?.Length ?? 0)]];
        string body = $"""
                ld.global.b32 %r10, [%rd4];
                ld.global.b32 %r11, [%rd4+{4 * padded}];
                ld.global.b32 %r12, [%rd4+{8 * padded}];
                mov.b32 %f10, %r10;
                mov.b32 %f11, %r11;
                mov.b32 %f12, %r12;
                cvt.u16.u32 %rs10, %r10;
                cvt.u16.u32 %rs11, %r11;
                cvt.u16.u32 %rs12, %r12;
                mov.b32 %r13, 0;
                mov.b32 %f13, 0f00000000;
                mov.b16 %rs13, 0;
                {instruction}
                st.global.b32 [%rd6], %r13;
            """;
        ulong inputs = test.Upload([.. Pad(a), .. Pad(b), .. Pad(c)], "inputs");
        ulong output = test.Gpu.Allocate(4 * padded, "output");
        test.Run(Text(body), inputs, 0, output);
        return test.Download<uint>(output, a.Length);
    }

    /// <summary>Runs one instruction on 64-bit values.</summary>
    public static ulong[] Map64(string instruction, ulong[] a, ulong[]? b = null)
    {
        using var test = new PtxTest { Grid = new Dim3((a.Length + 31) / 32) };
        int padded = (a.Length + 31) / 32 * 32;
        ulong[] Pad(ulong[]? values) => [.. (values ?? []), .. new ulong[padded - (values?.Length ?? 0)]];
        string body = $"""
                mul.wide.u32 %rd20, %r3, 8;
                add.u64 %rd21, %rd1, %rd20;
                ld.global.b64 %rd10, [%rd21];
                ld.global.b64 %rd11, [%rd21+{8 * padded}];
                mov.b64 %fd10, %rd10;
                mov.b64 %fd11, %rd11;
                cvt.u32.u64 %r10, %rd10;
                cvt.u32.u64 %r11, %rd11;
                mov.b32 %f10, %r10;
                mov.b64 %rd13, 0;
                {instruction}
                add.u64 %rd22, %rd3, %rd20;
                st.global.b64 [%rd22], %rd13;
            """;
        ulong inputs = test.Upload([.. Pad(a), .. Pad(b)], "inputs");
        ulong output = test.Gpu.Allocate(8 * padded, "output");
        test.Run(Text(body), inputs, 0, output);
        return test.Download<ulong>(output, a.Length);
    }

    public void Dispose() => Gpu.Dispose();
}
