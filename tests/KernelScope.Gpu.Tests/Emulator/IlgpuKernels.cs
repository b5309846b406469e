using System.Runtime.CompilerServices;
using ILGPU;
using ILGPU.Runtime.Cuda;

namespace KernelScope.Gpu.Tests.Emulator;

/// <summary>Four packed words, so that ILGPU emits 16-byte loads.</summary>
public struct FourWords
{
    public uint A;
    public uint B;
    public uint C;
    public uint D;
}

/// <summary>Kernels that <see cref="IlgpuTests"/> compiles.</summary>
public static class IlgpuKernels
{
    public static void Add(ArrayView<float> x, ArrayView<float> y, ArrayView<float> z)
    {
        int i = Grid.GlobalIndex.X;
        if (i < x.Length)
            z[i] = x[i] + y[i];
    }

    public static void AddUnbounded(ArrayView<float> x, ArrayView<float> y, ArrayView<float> z)
    {
        int i = Grid.GlobalIndex.X;
        z[i] = x[i] + y[i];
    }

    public static void WarpGemv(ArrayView<FourWords> w, ArrayView<float> x, ArrayView<float> z, int vectors)
    {
        long row = Grid.IdxX;
        float sum = 0;
        for (int i = Group.IdxX; i < vectors; i += Group.DimX)
        {
            FourWords words = w[row * vectors + i];
            sum += Two(words.A, x, 8 * i) + Two(words.B, x, 8 * i + 2) + Two(words.C, x, 8 * i + 4) + Two(words.D, x, 8 * i + 6);
        }
        for (int lanes = Warp.WarpSize / 2; lanes > 0; lanes >>= 1)
            sum += Warp.ShuffleXor(sum, lanes);
        if (Group.IdxX == 0)
            z[row] = sum;
    }

    public static void BlockSum(ArrayView<float> x, ArrayView<float> z, ArrayView<int> counts)
    {
        ArrayView<float> tile = SharedMemory.Allocate<float>(256);
        ArrayView<int> dynamic = SharedMemory.GetDynamic<int>();
        int t = Group.IdxX;
        tile[t] = x[Grid.GlobalIndex.X];
        dynamic[t] = t;
        Group.Barrier();
        for (int half = Group.DimX / 2; half > 0; half >>= 1)
        {
            if (t < half)
                tile[t] += tile[t + half];
            Group.Barrier();
        }
        int above = Group.BarrierPopCount(dynamic[255 - t] > 3);
        if (t == 0)
        {
            z[Grid.IdxX] = tile[0];
            Atomic.Add(ref counts[0], 1);
            Atomic.Add(ref counts[1], above);
        }
    }

    public static void MissingBarrier(ArrayView<float> x, ArrayView<float> z)
    {
        ArrayView<float> tile = SharedMemory.Allocate<float>(256);
        int t = Group.IdxX;
        tile[t] = x[t];
        Group.Barrier();
        z[t] = tile[t ^ 64];
        tile[t] = 0;
    }

    public static void InlineAssembly(ArrayView<float> x, ArrayView<float> z)
    {
        Input<float> value = x[Group.IdxX];
        Input<int> even = Group.IdxX % 2 == 0 ? 1 : 0;
        Ref<float> sum = 1f;
        CudaAsm.EmitRef("{ .reg .pred p; setp.ne.b32 p, %2, 0; @p fma.rn.f32 %0, %1, %1, %0; }", ref sum, ref value, ref even);
        z[Group.IdxX] = sum.Value;
    }

    public static void LocalArray(ArrayView<float> x, int k)
    {
        var copy = LocalMemory.Allocate1D<float>(8);
        for (int i = 0; i < 8; i++)
            copy[i] = x[i];
        x[k] = copy[k & 7];
        switch (k)
        {
            case 0:
                x[1] = 3;
                break;
            case 1:
                x[2] = 5;
                break;
            case 2:
                x[7] = 9;
                break;
            case 3:
                x[11] = 0;
                break;
            default:
                x[5] = 1;
                break;
        }
        x[15] = Steps(2, k + 1);
    }

    private static float Two(uint word, ArrayView<float> x, int i) =>
        Interop.IntAsFloat(word << 16) * x[i] + Interop.IntAsFloat(word & 0xFFFF_0000) * x[i + 1];

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static float Steps(float factor, int count)
    {
        float sum = 0;
        for (int i = 0; i < count; i++)
            sum = sum * factor + 1;
        return sum;
    }
}
