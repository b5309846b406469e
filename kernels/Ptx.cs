using System.Runtime.CompilerServices;
using ILGPU;
using ILGPU.IR.Intrinsics;

namespace KernelScope.Kernels;

/// <summary>Four 32-bit words, loaded as one 16-byte piece.</summary>
public struct Words4
{
    /// <summary>First word.</summary>
    public uint X;

    /// <summary>Second word.</summary>
    public uint Y;

    /// <summary>Third word.</summary>
    public uint Z;

    /// <summary>Fourth word.</summary>
    public uint W;
}

/// <summary>Four float32 values, loaded as one 16-byte piece.</summary>
public struct Float4 : IKvQuad<Float4>
{
    /// <summary>First value.</summary>
    public float X;

    /// <summary>Second value.</summary>
    public float Y;

    /// <summary>Third value.</summary>
    public float Z;

    /// <summary>Fourth value.</summary>
    public float W;

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Float4 Widen(Float4 quad) => quad;
}

/// <summary>Two float32 values, loaded as one 8-byte piece.</summary>
public struct Float2
{
    /// <summary>First value.</summary>
    public float X;

    /// <summary>Second value.</summary>
    public float Y;
}

/// <summary>
/// The PTX instructions that C# cannot say. Each method has two meanings that must agree: its C# body, which ILGPU's CPU accelerator runs,
/// and the instruction that <see cref="PtxCode"/> emits for it.
/// </summary>
/// <remarks>
/// Registered code generators rather than <c>CudaAsm.EmitRef</c>: the operands stay in registers (no <c>.local</c> depots), a <c>ref</c> to an element of a
/// shared or global view arrives as its address in that address space (no symbol names in assembly strings), and the kernel still runs without a GPU.
/// </remarks>
public static class Ptx
{
    /// <summary>a·b + c, rounded once. <c>fma.rn.f32</c>, any architecture. Products that must be rounded by themselves are written a * b.</summary>
    [IntrinsicImplementation]
    public static float MultiplyAdd(float a, float b, float c) => MathF.FusedMultiplyAdd(a, b, c);

    /// <summary>
    /// The value, computed here. ILGPU moves a computation to where its result is used, even into a loop; through this it stays before the loop. <c>mov.f32</c>.
    /// </summary>
    [IntrinsicImplementation]
    public static float Once(float x) => x;

    /// <summary>As <see cref="Once(float)"/>. <c>mov.b32</c>.</summary>
    [IntrinsicImplementation]
    public static int Once(int x) => x;

    /// <summary>As <see cref="Once(float)"/>. <c>mov.b64</c>.</summary>
    [IntrinsicImplementation]
    public static long Once(long x) => x;

    /// <summary>Writes a value that another group of this launch will read after a <see cref="Ticket"/>. <c>st.relaxed.gpu.global.f32</c>.</summary>
    [IntrinsicImplementation]
    public static void Publish(ref float global, float value) => global = value;

    /// <summary>A value that another group of this launch has published. <c>ld.relaxed.gpu.global.f32</c>.</summary>
    [IntrinsicImplementation]
    public static float Published(ref float global) => global;

    /// <summary>Four values that other groups of this launch have published, 16-byte aligned. <c>ld.relaxed.gpu.global.v4.f32</c>.</summary>
    [IntrinsicImplementation]
    public static Float4 Published4(ref float global) =>
        new() { X = global, Y = Unsafe.Add(ref global, 1), Z = Unsafe.Add(ref global, 2), W = Unsafe.Add(ref global, 3) };

    /// <summary>
    /// Counts 0, 1, … <paramref name="last"/> and begins again; gives the number that was there. What the threads of a group published before its barrier, and the thread
    /// that then takes a ticket, is seen by the group that takes a later one. <c>atom.acq_rel.gpu.global.inc.u32</c>.
    /// </summary>
    [IntrinsicImplementation]
    public static int Ticket(ref int counter, int last)
    {
        int number = Atomic.Add(ref counter, 1);
        if (number == last)
            counter = 0;
        return number;
    }

    /// <summary>
    /// The lanes of the mask, which are all that get here, go on together; the assembler moves no loads across. <c>bar.warp.sync</c>. The C# body orders nothing: lanes that share memory need
    /// <c>Warp.Barrier</c>.
    /// </summary>
    [IntrinsicImplementation]
    public static void Together(uint lanes)
    {
    }

    /// <summary>Bit l is the condition of lane l of this warp; all 32 lanes must take part. <c>vote.sync.ballot.b32</c>.</summary>
    [IntrinsicImplementation]
    public static uint Ballot(bool condition)
    {
        int mine = condition ? 1 : 0;
        uint mask = 0;
        for (int lane = 0; lane < 32; lane++)
            mask |= (uint)Warp.Shuffle(mine, lane) << lane;
        return mask;
    }

    /// <summary>Two values rounded to nearest even bfloat16: <paramref name="low"/> in bits 0–15, <paramref name="high"/> in bits 16–31. <c>cvt.rn.bf16x2.f32</c>, sm_80.</summary>
    [IntrinsicImplementation]
    public static uint PackBFloat16(float low, float high) => Round(low) | (Round(high) << 16);

    /// <summary>The two float32 values at <paramref name="shared"/>, 8-byte aligned. <c>ld.shared.v2.f32</c>.</summary>
    [IntrinsicImplementation]
    public static Float2 LoadShared2(ref float shared) => new() { X = shared, Y = Unsafe.Add(ref shared, 1) };

    /// <summary>
    /// Starts a copy of 16 bytes from global to shared memory; with <paramref name="bytes"/> 0 nothing is read and 16 zero bytes are written.
    /// Both addresses are 16-byte aligned. <c>cp.async.cg.shared.global</c>, sm_80.
    /// </summary>
    [IntrinsicImplementation]
    public static void CopyAsync(ref uint shared, ref uint global, int bytes)
    {
        for (int i = 0; i < 4; i++)
            Unsafe.Add(ref shared, i) = 4 * i < bytes ? Unsafe.Add(ref global, i) : 0;
    }

    /// <summary>Closes this thread's group of started copies. <c>cp.async.commit_group</c>, sm_80.</summary>
    [IntrinsicImplementation]
    public static void CommitCopies()
    {
    }

    /// <summary>Waits until at most the newest group of this thread's copies is under way. <c>cp.async.wait_group 1</c>, sm_80.</summary>
    [IntrinsicImplementation]
    public static void WaitForAllCopiesButOne()
    {
    }

    /// <summary>Waits until at most the four newest groups of this thread's copies are under way. <c>cp.async.wait_group 4</c>, sm_80.</summary>
    [IntrinsicImplementation]
    public static void WaitForAllCopiesButFour()
    {
    }

    /// <summary>Waits for all of this thread's copies. <c>cp.async.wait_group 0</c>, sm_80.</summary>
    [IntrinsicImplementation]
    public static void WaitForAllCopies()
    {
    }

    /// <summary>
    /// Asks for what lies there in global memory; nothing waits for it. Only where launches overlap (<see cref="WaitForGrid"/>): <c>prefetch.global.L2</c> as a comment, which the CUDA device makes an
    /// instruction when it loads the text for sm_90 and newer.
    /// </summary>
    [IntrinsicImplementation]
    public static void Prefetch(ref uint global)
    {
    }

    /// <summary>
    /// Waits until the launch before this one has ended, all that it wrote can be read, and lets the next one start. Before it a kernel reads only what no kernel ever writes, and writes nothing. In
    /// a kernel that does not call it PtxCompiler makes it the first instruction. <c>griddepcontrol.wait</c> and <c>griddepcontrol.launch_dependents</c>, as comments like <see cref="Prefetch"/>.
    /// </summary>
    [IntrinsicImplementation]
    public static void WaitForGrid()
    {
    }

    /// <summary>
    /// Four 8×8 matrices of 16-bit values from shared memory. Lane l gives the address of row l mod 8 of matrix l / 8 (16 bytes, 16-byte aligned);
    /// word m of the result is the pair (row l/4, columns 2·(l mod 4) and the next) of matrix m. <c>ldmatrix.sync.aligned.m8n8.x4.shared.b16</c>.
    /// </summary>
    [IntrinsicImplementation]
    public static Words4 LoadMatrices(ref uint shared)
    {
        int lane = Warp.LaneIdx;
        uint a = shared, b = Unsafe.Add(ref shared, 1), c = Unsafe.Add(ref shared, 2), d = Unsafe.Add(ref shared, 3);
        return new Words4
        {
            X = PickWord(a, b, c, d, lane / 4, lane % 4),
            Y = PickWord(a, b, c, d, 8 + (lane / 4), lane % 4),
            Z = PickWord(a, b, c, d, 16 + (lane / 4), lane % 4),
            W = PickWord(a, b, c, d, 24 + (lane / 4), lane % 4),
        };
    }

    /// <summary>The first two of them, of which lanes 0 to 15 give the rows. <c>ldmatrix.sync.aligned.m8n8.x2.shared.b16</c>.</summary>
    [IntrinsicImplementation]
    public static Words2 LoadTwoMatrices(ref uint shared)
    {
        Words4 four = LoadMatrices(ref shared);
        return new Words2 { X = four.X, Y = four.Y };
    }

    /// <summary>
    /// As <see cref="LoadMatrices"/>, each matrix transposed: word m is the pair (rows 2·(l mod 4) and the next, column l/4) of matrix m.
    /// <c>ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16</c>.
    /// </summary>
    [IntrinsicImplementation]
    public static Words4 LoadMatricesTransposed(ref uint shared)
    {
        int row = Warp.LaneIdx % 4 * 2, column = Warp.LaneIdx / 4;
        uint a = shared, b = Unsafe.Add(ref shared, 1), c = Unsafe.Add(ref shared, 2), d = Unsafe.Add(ref shared, 3);
        return new Words4
        {
            X = PickPair(a, b, c, d, row, column),
            Y = PickPair(a, b, c, d, 8 + row, column),
            Z = PickPair(a, b, c, d, 16 + row, column),
            W = PickPair(a, b, c, d, 24 + row, column),
        };
    }

    /// <summary>
    /// D = A·B + C for a warp, A [16 × 16] and B [16 × 8] bfloat16, C and D [16 × 8] float32. With g = l/4 and c = 2·(l mod 4), lane l holds
    /// A(g, c..), A(g+8, c..), A(g, c+8..), A(g+8, c+8..); B(c.., g), B(c+8.., g); C(g, c), C(g, c+1), C(g+8, c), C(g+8, c+1).
    /// <c>mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32</c>, sm_80. Hardware sums the products of one instruction in its own order and precision
    /// (truncating on Ampere and Hopper); the C# body sums in float32, k ascending.
    /// </summary>
    [IntrinsicImplementation]
    public static Float4 MultiplyAddBFloat16(float c0, float c1, float c2, float c3, uint a0, uint a1, uint a2, uint a3, uint b0, uint b1)
    {
        int row = Warp.LaneIdx / 4 * 4;
        int column = Warp.LaneIdx % 4 * 8;
        for (int half = 0; half < 2; half++)
        {
            for (int k = 0; k < 4; k++)
            {
                uint top = Warp.Shuffle(half == 0 ? a0 : a2, row + k);
                uint bottom = Warp.Shuffle(half == 0 ? a1 : a3, row + k);
                uint left = Warp.Shuffle(half == 0 ? b0 : b1, column + k);
                uint right = Warp.Shuffle(half == 0 ? b0 : b1, column + 4 + k);
                c0 += (Low(top) * Low(left)) + (High(top) * High(left));
                c1 += (Low(top) * Low(right)) + (High(top) * High(right));
                c2 += (Low(bottom) * Low(left)) + (High(bottom) * High(left));
                c3 += (Low(bottom) * Low(right)) + (High(bottom) * High(right));
            }
        }

        return new Float4 { X = c0, Y = c1, Z = c2, W = c3 };
    }

    private static uint PickWord(uint a, uint b, uint c, uint d, int lane, int word)
    {
        uint x = Warp.Shuffle(a, lane), y = Warp.Shuffle(b, lane), z = Warp.Shuffle(c, lane), w = Warp.Shuffle(d, lane);
        return word switch { 0 => x, 1 => y, 2 => z, _ => w };
    }

    // Column of a row and of the next, as the lanes that name those rows hold them.
    private static uint PickPair(uint a, uint b, uint c, uint d, int row, int column)
    {
        uint upper = PickWord(a, b, c, d, row, column / 2), lower = PickWord(a, b, c, d, row + 1, column / 2);
        return column % 2 == 0 ? (upper & 0xFFFFu) | (lower << 16) : (upper >> 16) | (lower & 0xFFFF0000u);
    }

    private static float Low(uint pair) => Interop.IntAsFloat(pair << 16);

    private static float High(uint pair) => Interop.IntAsFloat(pair & 0xFFFF0000u);

    private static uint Round(float x)
    {
        uint bits = Interop.FloatAsInt(x);
        return float.IsNaN(x) ? 0x7FFFu : (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
    }
}
