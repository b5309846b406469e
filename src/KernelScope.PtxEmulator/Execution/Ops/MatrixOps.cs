using System.Runtime.Intrinsics;

namespace KernelScope.PtxEmulator.Execution.Ops;

/// <summary>An input format of mma.</summary>
internal unsafe interface IMatrixFormat
{
    /// <summary>Elements in a register.</summary>
    static abstract int Elements { get; }

    /// <summary>Products that Hopper sums at once; Ampere sums half as many.</summary>
    static abstract int SumLength { get; }

    /// <summary>Power of two of the smallest normal number: denormals have its exponent.</summary>
    static abstract double LeastPower { get; }

    /// <summary>Writes a register's elements.</summary>
    static abstract void Widen(uint bits, double* to);
}

internal unsafe struct BrainMatrix : IMatrixFormat
{
    public static int Elements => 2;

    public static int SumLength => 16;

    public static double LeastPower => MatrixSum.SingleLeastPower;

    public static void Widen(uint bits, double* to)
    {
        to[0] = BitConverter.UInt32BitsToSingle(bits << 16);
        to[1] = BitConverter.UInt32BitsToSingle(bits & 0xFFFF_0000);
    }
}

internal unsafe struct HalfMatrix : IMatrixFormat
{
    public static int Elements => 2;

    public static int SumLength => 16;

    public static double LeastPower => 1.0 / (1 << 14);

    public static void Widen(uint bits, double* to)
    {
        to[0] = (double)BitConverter.UInt16BitsToHalf((ushort)bits);
        to[1] = (double)BitConverter.UInt16BitsToHalf((ushort)(bits >> 16));
    }
}

/// <summary>tf32: single precision of which the hardware reads 10 bits of fraction.</summary>
internal unsafe struct Tf32Matrix : IMatrixFormat
{
    public static int Elements => 1;

    public static int SumLength => 8;

    public static double LeastPower => MatrixSum.SingleLeastPower;

    public static void Widen(uint bits, double* to) => *to = BitConverter.UInt32BitsToSingle(bits & ~0x1FFFu);
}

/// <summary>
/// mma.sync m16n8kK with single-precision accumulators: D[16, 8] = A[16, K] · B[K, 8] + C. Lane l holds, with g = l / 4 and t = l % 4 and e
/// elements a
/// register (2 of 16 bits, 1 of tf32): A register i: row g + 8·(i % 2), columns t·e + 4·e·(i / 2) on; B register i: rows t·e + 4·e·i on,
/// column g;
/// C and D register i: row g + 8·(i / 2), column 2·t + i % 2.
/// </summary>
internal sealed unsafe class MatrixMultiply<TFormat>(Slot[] d, Slot[] a, Slot[] b, Slot[] c, int depth) : Op
    where TFormat : struct, IMatrixFormat
{
    private const int Rows = 16;
    private const int Columns = 8;

    public override void Execute(Warp warp, uint mask)
    {
        if (mask != FullMask)
            throw warp.Fault(FaultKind.InactiveLane, this, ~mask, null, "does not execute an mma with the rest of its warp (lanes " +
                $"0x{mask:X8})");
        double* left = stackalloc double[Rows * depth];
        double* right = stackalloc double[depth * Columns];
        double* sums = stackalloc double[Rows * Columns];
        Gather(warp, left, right, sums);
        MatrixSum? model = MatrixSum.Of(warp.Block.Launch.MatrixModel);
        double* leftPowers = stackalloc double[Rows * depth];
        double* rightPowers = stackalloc double[depth * Columns];
        if (model is not null)
        {
            MatrixSum.Powers(left, leftPowers, Rows * depth, TFormat.LeastPower);
            MatrixSum.Powers(right, rightPowers, depth * Columns, TFormat.LeastPower);
        }
        int length = model is null ? 0 : Math.Min(depth, TFormat.SumLength / model.Parts);
        for (int row = 0; row < Rows; row++)
        {
            Vector512<double> sum = Vector512.Load(sums + row * Columns);
            if (model is null)
                sum = ExactRow(left + row * depth, right, sum);
            else
            {
                for (int k = 0; k < depth; k += length)
                    sum = model.Add(length, left + row * depth + k, leftPowers + row * depth + k, right + k * Columns,
                        rightPowers + k * Columns, sum);
            }
            sum.Store(sums + row * Columns);
        }
        for (int i = 0; i < 4; i++)
        {
            float* result = (float*)warp.At(d[i]);
            for (int lane = 0; lane < 32; lane++)
                result[lane] = Result(sums[(lane / 4 + 8 * (i / 2)) * Columns + 2 * (lane % 4) + i % 2]);
        }
    }

    private static float Result(double sum) => double.IsNaN(sum) ? BitConverter.UInt32BitsToSingle(Single32.Nan) : (float)sum;

    private void Gather(Warp warp, double* left, double* right, double* sums)
    {
        int elements = TFormat.Elements;
        double* pair = stackalloc double[2];
        for (int i = 0; i < a.Length; i++)
        {
            uint* register = (uint*)warp.At(a[i]);
            double* corner = left + 8 * (i % 2) * depth + 4 * elements * (i / 2);
            for (int lane = 0; lane < 32; lane++)
                TFormat.Widen(register[lane], corner + lane / 4 * depth + lane % 4 * elements);
        }
        for (int i = 0; i < b.Length; i++)
        {
            uint* register = (uint*)warp.At(b[i]);
            double* corner = right + 4 * elements * i * Columns;
            for (int lane = 0; lane < 32; lane++)
            {
                TFormat.Widen(register[lane], pair);
                for (int e = 0; e < elements; e++)
                    corner[(lane % 4 * elements + e) * Columns + lane / 4] = pair[e];
            }
        }
        for (int i = 0; i < 4; i++)
        {
            float* register = (float*)warp.At(c[i]);
            for (int lane = 0; lane < 32; lane++)
                sums[(lane / 4 + 8 * (i / 2)) * Columns + 2 * (lane % 4) + i % 2] = register[lane];
        }
    }

    private Vector512<double> ExactRow(double* left, double* right, Vector512<double> sum)
    {
        for (int k = 0; k < depth; k++)
            sum += Vector512.Create(left[k]) * Vector512.Load(right + k * Columns);
        return sum;
    }
}

/// <summary>
/// ldmatrix m8n8 b16: lane i gives the address of row i % 8 of matrix i / 8; lane l receives elements 2·(l % 4) and the next of row l / 4
/// of each
/// matrix, or with .trans of column l / 4.
/// </summary>
internal sealed unsafe class MatrixLoad(Slot[] targets, Address address, bool transposed, bool generic) : Op
{
    private const int RowBytes = 16;

    public override void Execute(Warp warp, uint mask)
    {
        if (mask != FullMask)
            throw warp.Fault(FaultKind.InactiveLane, this, ~mask, null, "does not execute an ldmatrix with the rest of its warp " +
                $"(lanes 0x{mask:X8})");
        ulong* addresses = stackalloc ulong[32];
        int* offsets = stackalloc int[32];
        address.Compute(warp, mask, addresses);
        SharedMemory shared = warp.Block.Shared;
        int rows = 8 * targets.Length;
        for (int lane = 0; lane < rows; lane++)
        {
            ulong place = generic ? addresses[lane] - AddressSpace.SharedWindow : addresses[lane];
            offsets[lane] = shared.Range(this, warp, lane, place, RowBytes);
            if (shared.Checked)
                shared.ReadForWarp(this, warp, lane, offsets[lane], RowBytes);
        }
        uint readers = (uint)((1UL << rows) - 1);
        MemoryAccess.CountShared(ref warp.Block.Counters[Index], offsets, readers, RowBytes, writes: false);
        for (int matrix = 0; matrix < targets.Length; matrix++)
        {
            uint* target = (uint*)warp.At(targets[matrix]);
            int* row = offsets + 8 * matrix;
            for (int lane = 0; lane < 32; lane++)
            {
                int major = lane / 4;
                int minor = 2 * (lane % 4);
                target[lane] = transposed
                    ? Element(shared, row[minor], major) | (uint)Element(shared, row[minor + 1], major) << 16
                    : Element(shared, row[major], minor) | (uint)Element(shared, row[major], minor + 1) << 16;
            }
        }
    }

    private static ushort Element(SharedMemory shared, int row, int column) => *(ushort*)(shared.Data + row + 2 * column);
}
