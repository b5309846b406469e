using System.Runtime.CompilerServices;
using ILGPU;

namespace KernelScope.Kernels;

/// <summary>
/// The functions that kernels share. No approximate instruction is used: exp, log and tanh are polynomials over fma, so that a GPU, the emulator and the
/// CPU accelerator give the same bits, within 2 units in the last place of the true value.
/// </summary>
/// <remarks>Polynomials: the single-precision ones of Cephes (Moshier), expf, logf and tanhf.</remarks>
public static class KernelMath
{
    /// <summary>Number of threads of a warp.</summary>
    public const int WarpSize = 32;

    /// <summary>e^x. Overflows to infinity, underflows through the subnormals to 0, keeps NaN.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Exp(float x)
    {
        x = x > 89f ? 89f : x;
        x = x < -104f ? -104f : x;
        float p = ExpMantissa(x, out float shifted);
        // Two factors, because 2^128 and 2^-150 are not float32 by themselves.
        int exponent = (int)Interop.FloatAsInt(shifted) - 0x4B400000;
        int half = exponent >> 1;
        return p * PowerOfTwo(half) * PowerOfTwo(exponent - half);
    }

    /// <summary>
    /// e^x / 2^n, where n is the integer next to x / ln 2; <paramref name="shifted"/> is n + 1.5·2^23, whose low bits hold n. x from −2^21 to 2^21, or NaN.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float ExpMantissa(float x, out float shifted)
    {
        // Adding 1.5·2^23 rounds to an integer, which the low bits of the sum then hold.
        shifted = Ptx.MultiplyAdd(x, 1.44269504f, 12582912f);
        float n = shifted - 12582912f;
        float r = Ptx.MultiplyAdd(n, -0.693359375f, x);
        r = Ptx.MultiplyAdd(n, 2.12194440e-4f, r);
        float p = Ptx.MultiplyAdd(1.9875691500e-4f, r, 1.3981999507e-3f);
        p = Ptx.MultiplyAdd(p, r, 8.3334519073e-3f);
        p = Ptx.MultiplyAdd(p, r, 4.1665795894e-2f);
        p = Ptx.MultiplyAdd(p, r, 1.6666665459e-1f);
        p = Ptx.MultiplyAdd(p, r, 5.0000001201e-1f);
        return Ptx.MultiplyAdd(p * r, r, r) + 1f;
    }

    /// <summary>ln x for x a positive normal number or infinity; NaN is kept.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Log(float x)
    {
        int bits = (int)Interop.FloatAsInt(x);
        // 0x3F3504F3 is √½: the mantissa ends up in [√½, √2).
        int e = (bits - 0x3F3504F3) >> 23;
        float f = Interop.IntAsFloat((uint)(bits - (e << 23))) - 1f;
        float z = f * f;
        float p = Ptx.MultiplyAdd(7.0376836292e-2f, f, -1.1514610310e-1f);
        p = Ptx.MultiplyAdd(p, f, 1.1676998740e-1f);
        p = Ptx.MultiplyAdd(p, f, -1.2420140846e-1f);
        p = Ptx.MultiplyAdd(p, f, 1.4249322787e-1f);
        p = Ptx.MultiplyAdd(p, f, -1.6668057665e-1f);
        p = Ptx.MultiplyAdd(p, f, 2.0000714765e-1f);
        p = Ptx.MultiplyAdd(p, f, -2.4999993993e-1f);
        p = Ptx.MultiplyAdd(p, f, 3.3333331174e-1f);
        float y = p * f * z;
        float scale = (float)e;
        y = Ptx.MultiplyAdd(scale, -2.12194440e-4f, y);
        y = Ptx.MultiplyAdd(z, -0.5f, y);
        float result = Ptx.MultiplyAdd(scale, 0.693359375f, f + y);
        return x < float.PositiveInfinity ? result : x;
    }

    /// <summary>tanh x: an odd polynomial below 0.625, else 1 − 2/(e^2|x| + 1), so that small arguments keep their relative accuracy.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Tanh(float x)
    {
        float a = MathF.Abs(x);
        float small = SmallTanh(x);
        float large = 1f - (2f / (Exp(2f * a) + 1f));
        large = x < 0f ? -large : large;
        return a < 0.625f ? small : large;
    }

    /// <summary>tanh x for |x| below 0.625.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float SmallTanh(float x)
    {
        float z = x * x;
        float p = Ptx.MultiplyAdd(-5.70498872745e-3f, z, 2.06390887954e-2f);
        p = Ptx.MultiplyAdd(p, z, -5.37397155531e-2f);
        p = Ptx.MultiplyAdd(p, z, 1.33314422036e-1f);
        p = Ptx.MultiplyAdd(p, z, -3.33332819422e-1f);
        return Ptx.MultiplyAdd(p * z, x, x);
    }

    /// <summary>cap·tanh(x/cap).</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Softcap(float x, float cap) => cap * Tanh(x / cap);

    /// <summary>½z(1 + tanh(√(2/π)(z + 0.044715z³))), written as z / (1 + e^(−2u)), which does not cancel for negative z.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Gelu(float z)
    {
        float cubic = Ptx.MultiplyAdd(0.044715f * z * z, z, z);
        return z / (1f + Exp(-1.5957691216f * cubic));
    }

    /// <summary>The sum over the 32 lanes of a warp, in every lane: the same tree every time.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float WarpSum(float x)
    {
        x += Warp.ShuffleXor(x, 16);
        x += Warp.ShuffleXor(x, 8);
        x += Warp.ShuffleXor(x, 4);
        x += Warp.ShuffleXor(x, 2);
        x += Warp.ShuffleXor(x, 1);
        return x;
    }

    /// <summary>The largest of the 32 lanes of a warp, in every lane.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float WarpMax(float x)
    {
        x = MathF.Max(x, Warp.ShuffleXor(x, 16));
        x = MathF.Max(x, Warp.ShuffleXor(x, 8));
        x = MathF.Max(x, Warp.ShuffleXor(x, 4));
        x = MathF.Max(x, Warp.ShuffleXor(x, 2));
        x = MathF.Max(x, Warp.ShuffleXor(x, 1));
        return x;
    }

    /// <summary>The sum over the lower lanes, without this one.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static int WarpExclusiveSum(int x)
    {
        int lane = Group.IdxX & (WarpSize - 1);
        int sum = x;
        for (int offset = 1; offset < WarpSize; offset <<= 1)
        {
            int other = Warp.ShuffleUp(sum, offset);
            sum += lane >= offset ? other : 0;
        }

        return sum - x;
    }

    /// <summary>
    /// The sum over a group of <paramref name="warps"/> warps, in every thread: each warp's tree, then the warps in order.
    /// <paramref name="shared"/> holds one value for every warp; a barrier lies before its next use.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float GroupSum(float x, ArrayView<float> shared, int warps)
    {
        x = WarpSum(x);
        if ((Group.IdxX & (WarpSize - 1)) == 0)
            shared[Group.IdxX / WarpSize] = x;
        Group.Barrier();
        float sum = shared[0];
        for (int w = 1; w < warps; w++)
            sum += shared[w];
        Group.Barrier();
        return sum;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static float PowerOfTwo(int exponent) => Interop.IntAsFloat((uint)(exponent + 127) << 23);
}
