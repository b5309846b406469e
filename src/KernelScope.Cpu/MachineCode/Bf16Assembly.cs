using Iced.Intel;
using static Iced.Intel.AssemblerRegisters;

namespace KernelScope.Cpu.MachineCode;

/// <summary>Writes the code of <see cref="Bf16Code"/>. It runs at any address: it jumps within itself only.</summary>
/// <remarks>
/// <c>vdpbf16ps c, a, b</c>: in each of 16 lanes, c += a₁·b₁, then c += a₀·b₀ for the pairs of bfloat16 (a₀, a₁) and (b₀, b₁), each product and sum rounded to nearest;
/// numbers below the smallest normal one are taken as 0 and given as 0. Only registers that belong to nobody are used, in either calling convention,
/// but for xmm6 to xmm15 on Windows, which are kept.
/// </remarks>
internal static class Bf16Assembly
{
    /// <summary>Instructions in a turn of <see cref="PeakLoop"/>.</summary>
    public const int LoopProducts = 24;

    private const int VectorBytes = 64;
    private const int PanelBytes = 2 * VectorBytes;

    private static readonly AssemblerRegisterZMM[] Vectors =
    [
        zmm0, zmm1, zmm2, zmm3, zmm4, zmm5, zmm6, zmm7, zmm8, zmm9, zmm10, zmm11, zmm12, zmm13, zmm14, zmm15,
        zmm16, zmm17, zmm18, zmm19, zmm20, zmm21, zmm22, zmm23, zmm24, zmm25, zmm26, zmm27, zmm28, zmm29, zmm30, zmm31,
    ];

    private static readonly AssemblerRegisterXMM[] KeptOnWindows = [xmm6, xmm7, xmm8, xmm9, xmm10, xmm11, xmm12, xmm13, xmm14, xmm15];

    /// <summary>C[m, n] (+)= Σ A[i, m]·B[i, n] over pairs i, for <paramref name="rows"/> rows and <see cref="Bf16Code.Columns"/> columns, by one <see cref="Bf16Tile"/>.</summary>
    public static byte[] Tile(int rows, bool windows)
    {
        const int Unroll = 2;
        var code = new Assembler(64);
        Label steps = code.CreateLabel(), odd = code.CreateLabel(), done = code.CreateLabel(), store = code.CreateLabel();
        Enter(code, windows);
        AssemblerRegister64 a = rax, b = r8, c = r9, stride = r10, pairs = r11, at = rdx, add = rcx, tile = windows ? rcx : rdi;
        code.mov(a, __[tile]);
        code.mov(b, __[tile + 8]);
        code.mov(c, __[tile + 16]);
        code.mov(stride, __[tile + 24]);
        code.mov(pairs, __[tile + 32]);
        code.mov(add, __[tile + 40]);
        // The lines of C are on their way while the sums are made.
        code.mov(at, c);
        for (int m = 0; m < rows; m++)
        {
            code.prefetchw(__[at]);
            code.prefetchw(__[at + VectorBytes]);
            code.add(at, stride);
        }

        for (int n = 0; n < 2 * rows; n++)
            code.vpxord(Vectors[n], Vectors[n], Vectors[n]);
        code.sub(pairs, Unroll);
        code.jb(odd);
        code.Label(ref steps);
        for (int step = 0; step < Unroll; step++)
            Step(code, rows, a, b, step);
        code.add(a, Unroll * rows * sizeof(uint));
        code.add(b, Unroll * PanelBytes);
        code.sub(pairs, Unroll);
        code.jae(steps);
        code.Label(ref odd);
        code.add(pairs, Unroll);
        code.je(done);
        Step(code, rows, a, b, 0);
        code.Label(ref done);
        code.test(add, add);
        code.je(store);
        code.mov(at, c);
        EachRow(code, rows, at, stride, (vector, memory) => code.vaddps(vector, vector, memory));
        code.Label(ref store);
        EachRow(code, rows, c, stride, (vector, memory) => code.vmovups(memory, vector));
        Leave(code, windows);
        return Bytes(code);
    }

    /// <summary>A loop over its argument of products that depend on nothing but themselves, as many as hide the latency.</summary>
    public static byte[] PeakLoop(bool windows)
    {
        var code = new Assembler(64);
        Label turn = code.CreateLabel();
        Enter(code, windows);
        code.mov(rax, windows ? rcx : rdi);
        foreach (AssemblerRegisterZMM vector in Vectors)
            code.vpxord(vector, vector, vector);
        code.Label(ref turn);
        for (int n = 0; n < LoopProducts; n++)
            code.vdpbf16ps(Vectors[n], Vectors[30], Vectors[31]);
        code.dec(rax);
        code.jne(turn);
        Leave(code, windows);
        return Bytes(code);
    }

    /// <summary>One pair of inputs: accumulators 2m and 2m + 1 of row m; two vectors of weights; the rest of the registers take the rows' pairs in turn.</summary>
    private static void Step(Assembler code, int rows, AssemblerRegister64 a, AssemblerRegister64 b, int step)
    {
        AssemblerRegisterZMM low = Vectors[2 * rows], high = Vectors[(2 * rows) + 1];
        code.vmovups(low, __zmmword_ptr[b + (step * PanelBytes)]);
        code.vmovups(high, __zmmword_ptr[b + ((step * PanelBytes) + VectorBytes)]);
        int free = (2 * rows) + 2;
        for (int m = 0; m < rows; m++)
        {
            AssemblerRegisterZMM pair = Vectors[free + (m % (Vectors.Length - free))];
            code.vpbroadcastd(pair, __dword_ptr[a + (((step * rows) + m) * sizeof(uint))]);
            code.vdpbf16ps(Vectors[2 * m], low, pair);
            code.vdpbf16ps(Vectors[(2 * m) + 1], high, pair);
        }
    }

    private static void EachRow(Assembler code, int rows, AssemblerRegister64 at, AssemblerRegister64 stride,
        Action<AssemblerRegisterZMM, AssemblerMemoryOperand> move)
    {
        for (int m = 0; m < rows; m++)
        {
            move(Vectors[2 * m], __zmmword_ptr[at]);
            move(Vectors[(2 * m) + 1], __zmmword_ptr[at + VectorBytes]);
            code.add(at, stride);
        }
    }

    private static void Enter(Assembler code, bool windows)
    {
        if (!windows)
            return;
        code.sub(rsp, (KeptOnWindows.Length * 16) + 8);
        for (int n = 0; n < KeptOnWindows.Length; n++)
            code.vmovups(__xmmword_ptr[rsp + (n * 16)], KeptOnWindows[n]);
    }

    private static void Leave(Assembler code, bool windows)
    {
        code.vzeroupper();
        if (windows)
        {
            for (int n = 0; n < KeptOnWindows.Length; n++)
                code.vmovups(KeptOnWindows[n], __xmmword_ptr[rsp + (n * 16)]);
            code.add(rsp, (KeptOnWindows.Length * 16) + 8);
        }

        code.ret();
    }

    private static byte[] Bytes(Assembler code)
    {
        using var stream = new MemoryStream();
        code.Assemble(new StreamCodeWriter(stream), rip: 0);
        // The next piece begins on a line of its own.
        stream.SetLength((stream.Length + VectorBytes - 1) / VectorBytes * VectorBytes);
        return stream.ToArray();
    }
}
