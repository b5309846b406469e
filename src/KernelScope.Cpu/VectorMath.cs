using System.Runtime.CompilerServices;

namespace KernelScope.Cpu;

/// <summary>exp, tanh and what is made of them, to a few units in the last place of float32, over their whole range.</summary>
/// <remarks>
/// exp(x) = 2^n · exp(r) with n = round(x/ln 2) and |r| ≤ ½ ln 2; exp(r) = 1 + r + r²·P(r), P from Cephes' expf (S. Moshier; relative error about 2·10⁻⁸).
/// </remarks>
internal static class VectorMath<S, V>
    where S : struct, ISimd<V>
    where V : struct
{
    /// <summary>eˣ; 0 below −104, +∞ above 88.73, NaN for NaN.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Exp(V x)
    {
        V inRange = S.AtMost(S.All(89f), S.AtLeast(S.All(-105f), x));
        V rest = ExpMinusOneOfRest(inRange, out V n);
        return S.Scale(S.Add(rest, S.All(1f)), n);
    }

    /// <summary>cap·tanh(x/cap).</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Softcap(V x, V cap) => S.Multiply(cap, Tanh(S.Divide(x, cap)));

    /// <summary>tanh y = e/(e + 2) with e = exp(2|y|) − 1, which keeps relative accuracy near 0.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Tanh(V y)
    {
        // tanh(10) is 1 in float32, and exp stays finite.
        V twice = S.Multiply(S.AtMost(S.All(10f), S.Abs(y)), S.All(2f));
        V rest = ExpMinusOneOfRest(twice, out V n);
        V power = S.Scale(S.All(1f), n);
        V e = S.MultiplyAdd(power, rest, S.Subtract(power, S.All(1f)));
        return S.CopySign(S.Divide(e, S.Add(e, S.All(2f))), y);
    }

    /// <summary>½z(1 + tanh u) = z/(1 + exp(−2u)) with u = √(2/π)(z + 0.044715z³): the same function, without the difference of near-equal numbers for z &lt; 0.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Gelu(V z)
    {
        // −2·√(2/π)
        V factor = S.Multiply(S.All(-1.5957691216057308f), z);
        V inner = S.MultiplyAdd(S.Multiply(S.All(0.044715f), z), z, S.All(1f));
        return S.Divide(z, S.Add(S.All(1f), Exp(S.Multiply(factor, inner))));
    }

    /// <summary>exp(r) − 1 for x = n·ln 2 + r.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static V ExpMinusOneOfRest(V x, out V n)
    {
        n = S.Round(S.Multiply(x, S.All(1.44269504088896341f)));
        // ln 2 in two parts; n times the first is exact.
        V r = S.MultiplyAdd(n, S.All(-0.693359375f), x);
        r = S.MultiplyAdd(n, S.All(2.12194440e-4f), r);
        V p = S.MultiplyAdd(S.All(1.9875691500e-4f), r, S.All(1.3981999507e-3f));
        p = S.MultiplyAdd(p, r, S.All(8.3334519073e-3f));
        p = S.MultiplyAdd(p, r, S.All(4.1665795894e-2f));
        p = S.MultiplyAdd(p, r, S.All(1.6666665459e-1f));
        p = S.MultiplyAdd(p, r, S.All(5.0000001201e-1f));
        return S.MultiplyAdd(S.Multiply(r, r), p, r);
    }
}
