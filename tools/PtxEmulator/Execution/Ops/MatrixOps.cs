using System.Runtime.Intrinsics;

namespace KernelScope.PtxEmulator.Execution.Ops;

/// <summary>Input formats of mma.</summary>
internal enum MatrixFormat
{
    BFloat16,
    Half,
    Tf32,
}

/// <summary>
/// mma.sync m16n8kK with single-precision accumulators: D[16, 8] = A[16, K] · B[K, 8] + C. Lane l holds, with g = l / 4 and t = l % 4 and e elements a
/// register (2 of 16 bits, 1 of tf32): A register i: row g + 8·(i % 2), columns t·e + 4·e·(i / 2) on; B register i: rows t·e + 4·e·i on, column g;
/// C and D register i: row g + 8·(i / 2), column 2·t + i % 2.
/// </summary>
internal sealed unsafe class MatrixMultiply(Slot[] d, Slot[] a, Slot[] b, Slot[] c, int depth, MatrixFormat format) : Op
{
    private const int Rows = 16;
    private const int Columns = 8;

    public override void Execute(Warp warp, uint mask)
    {
        if (mask != FullMask)
            throw warp.Fault(FaultKind.InactiveLane, this, ~mask, null, $"does not execute an mma with the rest of its warp (lanes 0x{mask:X8})");
        double* left = stackalloc double[Rows * depth];
        double* right = stackalloc double[depth * Columns];
        double* sums = stackalloc double[Rows * Columns];
        Gather(warp, left, right, sums);
        bool truncate = warp.Block.Launch.Options.MatrixRounding == MatrixRounding.Truncate;
        for (int row = 0; row < Rows; row++)
        {
            Vector512<double> sum = Vector512.Load(sums + row * Columns);
            sum = truncate ? TruncatedRow(left + row * depth, right, sum) : ExactRow(left + row * depth, right, sum);
            sum.Store(sums + row * Columns);
        }
        for (int lane = 0; lane < 32; lane++)
            for (int i = 0; i < 4; i++)
                Lane.Set(warp.At(d[i]), lane, Result(sums[(lane / 4 + 8 * (i / 2)) * Columns + 2 * (lane % 4) + i % 2]));
    }

    private static float Result(double sum) => double.IsNaN(sum) ? BitConverter.UInt32BitsToSingle(Single32.Nan) : (float)sum;

    private void Gather(Warp warp, double* left, double* right, double* sums)
    {
        int elements = format == MatrixFormat.Tf32 ? 1 : 2;
        for (int lane = 0; lane < 32; lane++)
        {
            int g = lane / 4;
            int t = lane % 4;
            for (int i = 0; i < a.Length; i++)
                for (int e = 0; e < elements; e++)
                    left[(g + 8 * (i % 2)) * depth + t * elements + 4 * elements * (i / 2) + e] = Element(warp, a[i], lane, e);
            for (int i = 0; i < b.Length; i++)
                for (int e = 0; e < elements; e++)
                    right[(t * elements + 4 * elements * i + e) * Columns + g] = Element(warp, b[i], lane, e);
            for (int i = 0; i < 4; i++)
                sums[(g + 8 * (i / 2)) * Columns + 2 * t + i % 2] = Lane.Get<float>(warp.At(c[i]), lane);
        }
    }

    private double Element(Warp warp, Slot slot, int lane, int element)
    {
        uint bits = Lane.Get<uint>(warp.At(slot), lane);
        return format switch
        {
            MatrixFormat.Tf32 => BitConverter.UInt32BitsToSingle(bits & ~0x1FFFu),
            MatrixFormat.Half => (double)BitConverter.UInt16BitsToHalf((ushort)(bits >> (16 * element))),
            _ => BitConverter.UInt32BitsToSingle(element == 0 ? bits << 16 : bits & 0xFFFF_0000),
        };
    }

    private Vector512<double> ExactRow(double* left, double* right, Vector512<double> sum)
    {
        for (int k = 0; k < depth; k++)
            sum += Vector512.Create(left[k]) * Vector512.Load(right + k * Columns);
        return sum;
    }

    private Vector512<double> TruncatedRow(double* left, double* right, Vector512<double> sum)
    {
        int block = format == MatrixFormat.Tf32 ? 4 : 8;
        double* products = stackalloc double[block * Columns];
        for (int k = 0; k < depth; k += block)
        {
            Vector512<double> largest = Vector512.Abs(sum);
            Vector512<double> plain = sum;
            for (int i = 0; i < block; i++)
            {
                Vector512<double> product = Vector512.Create(left[k + i]) * Vector512.Load(right + (k + i) * Columns);
                product.Store(products + i * Columns);
                largest = Vector512.Max(largest, Vector512.Abs(product));
                plain += product;
            }
            // Infinities and NaN take the ordinary way.
            Vector512<double> finite = Vector512.LessThan(largest, Vector512.Create(double.PositiveInfinity));
            Vector512<double> power = (largest.AsUInt64() & Vector512.Create(0x7FF0_0000_0000_0000UL)).AsDouble();
            Vector512<double> some = Vector512.GreaterThan(power, Vector512<double>.Zero) & finite;
            Vector512<double> unit = Vector512.ConditionalSelect(some, power, Vector512<double>.One) * Vector512.Create(1.0 / (1 << 24));
            Vector512<double> cut = Vector512.Truncate(sum / unit);
            for (int i = 0; i < block; i++)
                cut += Vector512.Truncate(Vector512.Load(products + i * Columns) / unit);
            Vector512<double> total = ((cut * unit).AsUInt64() & Vector512.Create(0xFFFF_FFFF_E000_0000UL)).AsDouble();
            sum = Vector512.ConditionalSelect(some, total, plain);
        }
        return sum;
    }
}

/// <summary>
/// ldmatrix m8n8 b16: lane i gives the address of row i % 8 of matrix i / 8; lane l receives elements 2·(l % 4) and the next of row l / 4 of each
/// matrix, or with .trans of column l / 4.
/// </summary>
internal sealed unsafe class MatrixLoad(Slot[] targets, Address address, bool transposed, bool generic) : Op
{
    private const int RowBytes = 16;

    public override void Execute(Warp warp, uint mask)
    {
        if (mask != FullMask)
            throw warp.Fault(FaultKind.InactiveLane, this, ~mask, null, $"does not execute an ldmatrix with the rest of its warp (lanes 0x{mask:X8})");
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
