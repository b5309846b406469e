namespace KernelScope.Attribution;

/// <summary>The vector-Jacobian products of what lies between a layer's matrix products, in double. Rows are processed one by one.</summary>
internal static class BackwardMath
{
    private const double Sqrt2OverPi = 0.79788456080286535588;
    private const double GeluCubic = 0.044715;

    /// <summary>
    /// Of y = x·r·(1 + g), r = (mean(x²) + ε)^(−1/2): with c = dy·(1 + g), dx = r·c − x·r³·mean(c·x), added to <paramref name="dx"/>.
    /// </summary>
    public static void RmsNorm(ReadOnlySpan<float> x, ReadOnlySpan<float> gain, float epsilon, ReadOnlySpan<float> dy, Span<float> dx)
    {
        double squares = 0, product = 0;
        for (int i = 0; i < x.Length; i++)
        {
            squares += (double)x[i] * x[i];
            product += (1.0 + gain[i]) * dy[i] * x[i];
        }

        double r = 1 / Math.Sqrt((squares / x.Length) + epsilon), pull = r * r * r * product / x.Length;
        for (int i = 0; i < x.Length; i++)
            dx[i] += (float)((r * (1.0 + gain[i]) * dy[i]) - (pull * x[i]));
    }

    /// <summary>Of h = gelu(gate)·up: d gate = dh·up·gelu′(gate), d up = dh·gelu(gate).</summary>
    /// <param name="gateUp">gate, then up.</param>
    /// <param name="dh">Gradient of h.</param>
    /// <param name="destination">d gate, then d up.</param>
    public static void GatedGelu(ReadOnlySpan<float> gateUp, ReadOnlySpan<float> dh, Span<float> destination)
    {
        int width = dh.Length;
        for (int j = 0; j < width; j++)
        {
            double gate = gateUp[j], up = gateUp[width + j];
            double t = Math.Tanh(Sqrt2OverPi * (gate + (GeluCubic * gate * gate * gate)));
            double slope = (0.5 * (1 + t)) + (0.5 * gate * (1 - (t * t)) * Sqrt2OverPi * (1 + (3 * GeluCubic * gate * gate)));
            destination[j] = (float)(dh[j] * up * slope);
            destination[width + j] = (float)(dh[j] * 0.5 * gate * (1 + t));
        }
    }

    /// <summary>Of y = cap·tanh(x/cap), given y: dx = dy·(1 − (y/cap)²), in place.</summary>
    public static void Softcap(ReadOnlySpan<float> y, float cap, Span<float> dy)
    {
        if (cap <= 0)
            return;
        for (int v = 0; v < y.Length; v++)
        {
            double share = (double)y[v] / cap;
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
}
