using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace KernelScope.Attribution;

/// <summary>The vector-Jacobian products of what lies between a layer's matrix products, in double, row by row, four lanes of 256 bits on every machine.</summary>
internal static class BackwardMath
{
    private const double Sqrt2OverPi = 0.79788456080286535588;
    private const double GeluCubic = 0.044715;
    private const int Lanes = 4;

    /// <summary>
    /// Of y = x·r·(1 + g), r = (mean(x²) + ε)^(−1/2): with c = dy·(1 + g), dx = r·c − x·r³·mean(c·x), added to <paramref name="dx"/>.
    /// </summary>
    public static void RmsNorm(ReadOnlySpan<float> x, ReadOnlySpan<float> gain, float epsilon, ReadOnlySpan<float> dy, Span<float> dx)
    {
        Vector256<double> squares = default, products = default;
        int i = 0;
        for (; i <= x.Length - Lanes; i += Lanes)
        {
            Vector256<double> value = Widen(x, i);
            squares += value * value;
            products += (Vector256<double>.One + Widen(gain, i)) * Widen(dy, i) * value;
        }

        double square = Vector256.Sum(squares), product = Vector256.Sum(products);
        for (int k = i; k < x.Length; k++)
        {
            square += (double)x[k] * x[k];
            product += (1.0 + gain[k]) * dy[k] * x[k];
        }

        double r = 1 / Math.Sqrt((square / x.Length) + epsilon), pull = r * r * r * product / x.Length;
        for (i = 0; i <= x.Length - Lanes; i += Lanes)
        {
            Vector256<double> change = (r * (Vector256<double>.One + Widen(gain, i)) * Widen(dy, i)) - (pull * Widen(x, i));
            (Vector128.LoadUnsafe(ref MemoryMarshal.GetReference(dx), (nuint)i) + Narrow(change)).StoreUnsafe(
                ref MemoryMarshal.GetReference(dx), (nuint)i);
        }

        for (; i < x.Length; i++)
            dx[i] += (float)((r * (1.0 + gain[i]) * dy[i]) - (pull * x[i]));
    }

    /// <summary>h = gelu(gate)·up.</summary>
    public static void GatedGelu(ReadOnlySpan<float> gateUp, Span<float> h)
    {
        int width = h.Length, j = 0;
        for (; j <= width - Lanes; j += Lanes)
        {
            Vector256<double> gate = Widen(gateUp, j);
            Store(0.5 * gate * (Vector256<double>.One + GeluTanh(gate)) * Widen(gateUp, width + j), h, j);
        }

        for (; j < width; j++)
            h[j] = (float)(0.5 * gateUp[j] * (1 + GeluTanh(Vector256.Create((double)gateUp[j])).ToScalar()) * gateUp[width + j]);
    }

    /// <summary>Of h = gelu(gate)·up: d gate = dh·up·gelu′(gate), d up = dh·gelu(gate).</summary>
    /// <param name="gateUp">gate, then up.</param>
    /// <param name="dh">Gradient of h.</param>
    /// <param name="destination">d gate, then d up.</param>
    public static void GatedGeluBack(ReadOnlySpan<float> gateUp, ReadOnlySpan<float> dh, Span<float> destination)
    {
        int width = dh.Length, j = 0;
        for (; j <= width - Lanes; j += Lanes)
        {
            (Vector256<double> dGate, Vector256<double> dUp) = GatedGeluBack(Widen(gateUp, j), Widen(gateUp, width + j), Widen(dh, j));
            Store(dGate, destination, j);
            Store(dUp, destination, width + j);
        }

        for (; j < width; j++)
        {
            (Vector256<double> dGate, Vector256<double> dUp) =
                GatedGeluBack(Vector256.Create((double)gateUp[j]), Vector256.Create((double)gateUp[width + j]),
                    Vector256.Create((double)dh[j]));
            destination[j] = (float)dGate.ToScalar();
            destination[width + j] = (float)dUp.ToScalar();
        }
    }

    /// <summary>Of y = cap·tanh(x/cap), given y: dx = dy·(1 − (y/cap)²), in place.</summary>
    public static void Softcap(ReadOnlySpan<float> y, float cap, Span<float> dy)
    {
        if (cap <= 0)
            return;
        double factor = 1.0 / cap;
        int v = 0;
        for (; v <= y.Length - Lanes; v += Lanes)
        {
            Vector256<double> share = Widen(y, v) * factor;
            Store(Widen(dy, v) * (Vector256<double>.One - (share * share)), dy, v);
        }

        for (; v < y.Length; v++)
        {
            double share = y[v] * factor;
            dy[v] = (float)(dy[v] * (1 - (share * share)));
        }
    }

    /// <summary>The rotation turned back: a rotation's Jacobian is orthogonal. In place, every head of a row.</summary>
    public static void Rope(Span<float> row, ReadOnlySpan<float> cosSin)
    {
        int dim = cosSin.Length, half = dim / 2;
        for (int head = 0; head < row.Length; head += dim)
        {
            for (int i = 0; i < half; i++)
            {
                double cos = cosSin[i], sin = cosSin[half + i], x = row[head + i], y = row[head + half + i];
                row[head + i] = (float)((x * cos) + (y * sin));
                row[head + half + i] = (float)((y * cos) - (x * sin));
            }
        }
    }

    /// <summary>tanh x = (1 − e)/(1 + e) with e = exp(−2|x|): an error of 10⁻¹⁶, absolute.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<double> Tanh(Vector256<double> x)
    {
        Vector256<double> e = Vector256.Exp(-2.0 * Vector256.Abs(x));
        return Vector256.CopySign((Vector256<double>.One - e) / (Vector256<double>.One + e), x);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static (Vector256<double> DGate, Vector256<double> DUp) GatedGeluBack(
        Vector256<double> gate, Vector256<double> up, Vector256<double> dh)
    {
        Vector256<double> t = GeluTanh(gate), half = 0.5 * (Vector256<double>.One + t);
        Vector256<double> slope = half
            + (0.5 * gate * (Vector256<double>.One - (t * t)) * Sqrt2OverPi * (Vector256<double>.One + (3 * GeluCubic * gate * gate)));
        return (dh * up * slope, dh * gate * half);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<double> GeluTanh(Vector256<double> gate) =>
        Tanh(Sqrt2OverPi * gate * (Vector256<double>.One + (GeluCubic * gate * gate)));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<double> Widen(ReadOnlySpan<float> values, int at)
    {
        Vector128<float> four = Vector128.LoadUnsafe(ref MemoryMarshal.GetReference(values), (nuint)at);
        return Vector256.Create(Vector128.WidenLower(four), Vector128.WidenUpper(four));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector128<float> Narrow(Vector256<double> values) => Vector128.Narrow(values.GetLower(), values.GetUpper());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Store(Vector256<double> values, Span<float> destination, int at) =>
        Narrow(values).StoreUnsafe(ref MemoryMarshal.GetReference(destination), (nuint)at);
}
