namespace KernelScope.Devices.Reference;

/// <summary>
/// The definition of every op: plain loops, one thread, sums in double from the first term to the last, one rounding to float32 where
/// <see cref="Device"/> says "rounded" or at the destination.
/// </summary>
/// <remarks>
/// <para>Infinities and NaN get no treatment of their own; they are what the equations give:</para>
/// <list type="bullet">
/// <item><see cref="Device.Normalize"/>: a NaN makes its whole row NaN; an infinity is NaN itself and makes the rest of its row 0.</item>
/// <item><see cref="Device.Linear"/>: 0·∞ is NaN, so one infinite activation makes an output infinite or NaN.</item>
/// <item><see cref="Device.GatedGelu"/>: gelu(+∞) = +∞, gelu(−∞) = −∞·0 = NaN (as in PyTorch).</item>
/// <item><see cref="Device.Attend(Mat, KvLayer, int, AttentionShape, Mat)"/>: a visible score of NaN or +∞ makes the whole head NaN; −∞ has weight 0; all −∞ is 0/0 = NaN. Under a cap, ±∞ is ±cap.
/// Keys that a query does not see are not in its equation: whatever they hold, they change nothing.</item>
/// <item><see cref="Device.Softcap"/>: ±∞ becomes ±cap.</item>
/// <item><see cref="Device.CrossEntropy"/>: NaN logits give NaN; a logit of +∞ gives +∞, or NaN for the target's own.</item>
/// <item><see cref="Device.SaeEncode"/>: NaN &gt; θ is false, so a NaN is never active; +∞ is.</item>
/// </list>
/// Any number of threads may call it, as any <see cref="Device"/>; it computes on the thread that calls.
/// </remarks>
public sealed partial class ReferenceDevice : HostDevice
{
    private double[] _weightRow = [];
    private double[] _scratch = [];

    /// <inheritdoc/>
    public override string Name => "reference";

    /// <inheritdoc/>
    protected override void EmbedCore(ReadOnlySpan<int> tokens, Weight table, float scale, Mat destination)
    {
        for (int t = 0; t < tokens.Length; t++)
        {
            ReadOnlySpan<double> e = RowOf(table, tokens[t]);
            Span<float> y = HostBuffer.Row(destination, t);
            for (int j = 0; j < y.Length; j++)
                y[j] = (float)(scale * e[j]);
        }
    }

    /// <inheritdoc/>
    protected override void NormalizeCore(Mat x, float epsilon, Mat destination)
    {
        for (int t = 0; t < x.Rows; t++)
        {
            ReadOnlySpan<float> row = HostBuffer.Row(x, t);
            Span<float> u = HostBuffer.Row(destination, t);
            double squares = 0;
            foreach (float value in row)
                squares += (double)value * value;
            double factor = 1 / Math.Sqrt((squares / row.Length) + epsilon);
            for (int i = 0; i < row.Length; i++)
                u[i] = (float)(row[i] * factor);
        }
    }

    /// <inheritdoc/>
    protected override void ApplyGainCore(Mat unit, Mat gain, Mat destination)
    {
        ReadOnlySpan<float> g = HostBuffer.Row(gain, 0);
        for (int t = 0; t < unit.Rows; t++)
        {
            ReadOnlySpan<float> u = HostBuffer.Row(unit, t);
            Span<float> y = HostBuffer.Row(destination, t);
            for (int i = 0; i < u.Length; i++)
            {
                float factor = (float)(1.0 + g[i]);
                y[i] = (float)((double)u[i] * factor);
            }
        }
    }

    /// <inheritdoc/>
    protected override void LinearCore(Mat x, Weight weight, Mat destination)
    {
        for (int j = 0; j < weight.Rows; j++)
        {
            ReadOnlySpan<double> w = RowOf(weight, j);
            for (int t = 0; t < x.Rows; t++)
                HostBuffer.Row(destination, t)[j] = (float)Dot(HostBuffer.Row(x, t), w);
        }
    }

    /// <inheritdoc/>
    protected override void LinearTransposedCore(Mat x, Weight weight, Mat destination)
    {
        double[] sums = new double[weight.Columns];
        for (int t = 0; t < x.Rows; t++)
        {
            ReadOnlySpan<float> row = HostBuffer.Row(x, t);
            Array.Clear(sums);
            for (int j = 0; j < row.Length; j++)
            {
                ReadOnlySpan<double> w = RowOf(weight, j);
                for (int i = 0; i < sums.Length; i++)
                    sums[i] += row[j] * w[i];
            }

            Span<float> y = HostBuffer.Row(destination, t);
            for (int i = 0; i < sums.Length; i++)
                y[i] = (float)sums[i];
        }
    }

    /// <inheritdoc/>
    protected override void GatedGeluCore(Mat x, Weight gateUp, Mat destination)
    {
        int hidden = gateUp.Rows / 2;
        double[] gate = Scratch(x.Rows);
        for (int j = 0; j < hidden; j++)
        {
            ReadOnlySpan<double> w = RowOf(gateUp, j);
            for (int t = 0; t < x.Rows; t++)
                gate[t] = Dot(HostBuffer.Row(x, t), w);
            w = RowOf(gateUp, hidden + j);
            for (int t = 0; t < x.Rows; t++)
                HostBuffer.Row(destination, t)[j] = (float)(Gelu(gate[t]) * Dot(HostBuffer.Row(x, t), w));
        }
    }

    /// <inheritdoc/>
    protected override void SoftcapCore(Mat x, float cap)
    {
        for (int t = 0; t < x.Rows; t++)
        {
            foreach (ref float value in HostBuffer.Row(x, t))
                value = (float)Cap(value, cap);
        }
    }

    /// <inheritdoc/>
    protected override void CrossEntropyCore(Mat x, Weight unembedding, float cap, ReadOnlySpan<int> targets, Mat destination)
    {
        double[] logits = Scratch(unembedding.Rows);
        for (int t = 0; t < x.Rows; t++)
        {
            double max = double.NegativeInfinity;
            for (int v = 0; v < unembedding.Rows; v++)
            {
                logits[v] = Cap(Dot(HostBuffer.Row(x, t), RowOf(unembedding, v)), cap);
                max = Math.Max(max, logits[v]);
            }

            // log Σ exp(l) = m + log Σ exp(l − m) for any finite m; taking the largest keeps exp in range.
            double sum = 0;
            for (int v = 0; v < unembedding.Rows; v++)
                sum += Math.Exp(logits[v] - max);
            double logSum = double.IsFinite(max) ? max + Math.Log(sum) : max;
            HostBuffer.Row(destination, t)[0] = (float)(logSum - logits[targets[t]]);
        }
    }

    /// <inheritdoc/>
    protected override void TopKCore(Mat x, int k, SparseCodes destination)
    {
        HostCodes lists = HostCodes.From(destination);
        lists.Begin(x.Rows);
        for (int t = 0; t < x.Rows; t++)
        {
            ReadOnlySpan<float> row = HostBuffer.Row(x, t);
            int previous = -1;
            for (int n = 0; n < k; n++)
            {
                previous = NextLargest(row, previous);
                lists.Add(previous, row[previous]);
            }

            lists.EndRow();
        }
    }

    /// <inheritdoc/>
    protected override void AddScaledCore(Mat x, float alpha, Mat destination)
    {
        for (int t = 0; t < destination.Rows; t++)
        {
            ReadOnlySpan<float> row = HostBuffer.Row(x, x.Rows == 1 ? 0 : t);
            Span<float> y = HostBuffer.Row(destination, t);
            for (int i = 0; i < y.Length; i++)
            {
                float product = (float)((double)alpha * row[i]);
                y[i] = (float)((double)y[i] + product);
            }
        }
    }

    /// <summary>The first entry after <paramref name="previous"/> in the order of <see cref="Device.TopK"/>; −1: the very first.</summary>
    private static int NextLargest(ReadOnlySpan<float> row, int previous)
    {
        int best = -1;
        for (int i = 0; i < row.Length; i++)
        {
            if ((previous < 0 || Precedes(row, previous, i)) && (best < 0 || Precedes(row, i, best)))
                best = i;
        }

        return best;
    }

    /// <summary>Whether entry a comes before entry b: NaN first, then the larger, then the lower index.</summary>
    private static bool Precedes(ReadOnlySpan<float> row, int a, int b)
    {
        if (float.IsNaN(row[a]) != float.IsNaN(row[b]))
            return float.IsNaN(row[a]);
        return row[a] > row[b] || (!(row[a] < row[b]) && a < b);
    }

    private static double Dot(ReadOnlySpan<float> x, ReadOnlySpan<double> w)
    {
        double sum = 0;
        for (int i = 0; i < x.Length; i++)
            sum += x[i] * w[i];
        return sum;
    }

    /// <summary>½z(1 + tanh(√(2/π)(z + 0.044715z³))).</summary>
    private static double Gelu(double z) => 0.5 * z * (1 + Math.Tanh(Math.Sqrt(2 / Math.PI) * (z + (0.044715 * z * z * z))));

    /// <summary>cap·tanh(s/cap); cap 0: s.</summary>
    private static double Cap(double s, double cap) => cap == 0 ? s : cap * Math.Tanh(s / cap);

    /// <summary>Row <paramref name="r"/> of a weight, widened; valid until the next call.</summary>
    private ReadOnlySpan<double> RowOf(Weight weight, int r)
    {
        if (_weightRow.Length < weight.Columns)
            _weightRow = new double[weight.Columns];
        Span<double> row = _weightRow.AsSpan(0, weight.Columns);
        HostWeight.From(weight).WidenRow(r, row);
        return row;
    }

    /// <summary>Room for at least <paramref name="length"/> numbers, kept for the next call.</summary>
    private double[] Scratch(int length)
    {
        if (_scratch.Length < length)
            _scratch = new double[length];
        return _scratch;
    }
}
