namespace KernelScope.Devices;

/// <summary>The ops that learn: lists of active features transposed, sums over them, and the optimiser's step.</summary>
/// <remarks>
/// What is defined here in plain loops over copies in host memory, in double, is also the reference. It is right on every device and slow;
/// a device that trains has forms of its own.
/// </remarks>
public abstract partial class Device
{
    /// <summary>A matrix as a weight, where it lies: ops that read the weight see what was written to the matrix last. The matrix must
    /// outlive it.</summary>
    /// <param name="name">For messages.</param>
    /// <param name="values">The matrix, without gaps between its rows.</param>
    /// <param name="transposed">False: the matrix is [out, in]. True: it is [in, out].</param>
    /// <exception cref="NotSupportedException">The device reads weights only as files give them.</exception>
    public virtual Weight CreateWeight(string name, Mat values, bool transposed = false) =>
        throw new NotSupportedException($"{Name} does not train: its weights are copies of files. Use --device cpu.");

    /// <summary>
    /// As <see cref="SaeEncode"/>, and besides the features whose pre-activation a is near its threshold, |a − θ| &lt; <paramref
    /// name="distance"/> (the difference rounded), with the values a,
    /// whether they are active or not. There the kernel of a straight-through estimator is 1 (Rajamanoharan et al. 2024, eq. 11).
    /// </summary>
    public void SaeEncodeNear(Mat x, SaeParameters sae, SparseCodes destination, float distance, SparseCodes near)
    {
        using RunningOp op = Enter();
        Check.Shape(x, x.Rows, sae.InputDim);
        Check.Shape(sae.EncoderBias, 1, sae.FeatureCount);
        Check.Shape(sae.Threshold, 1, sae.FeatureCount);
        Check.Features(destination, sae);
        Check.Features(near, sae);
        ArgumentOutOfRangeException.ThrowIfNegative(sae.TopK);
        if (ReferenceEquals(destination, near))
            throw new ArgumentException("What is active and what is near go to different lists.", nameof(near));
        SaeEncodeNearCore(x, sae, destination, distance, near);
        GC.KeepAlive(sae);
    }

    /// <summary>The lists transposed: list j of the destination has an entry (r, value) for each entry (j, value) of list r, r ascending.
    /// codes [n] of features below m → [m] of entries below n.</summary>
    public void Transpose(SparseCodes codes, SparseCodes destination)
    {
        using RunningOp op = Enter();
        ArgumentNullException.ThrowIfNull(codes);
        ArgumentNullException.ThrowIfNull(destination);
        if (destination.FeatureCount != codes.Rows || ReferenceEquals(codes, destination))
            throw new ArgumentException($"'{destination.Name}' is for entries below {destination.FeatureCount}; '{codes.Name}' has " +
                $"{codes.Rows} lists.", nameof(destination));
        TransposeCore(codes, destination);
    }

    /// <summary>Waits for codes and copies the number of entries of each list to the host.</summary>
    public void ReadLengths(SparseCodes codes, Span<int> destination)
    {
        using RunningOp op = Enter();
        ArgumentNullException.ThrowIfNull(codes);
        if (destination.Length != codes.Rows)
            throw new ArgumentException($"'{codes.Name}' has {codes.Rows} lists, not {destination.Length}.", nameof(destination));
        ReadLengthsCore(codes, destination);
    }

    /// <summary>y[r] = Σ value·X[index] over list <paramref name="firstRow"/> + r, in list order: codes·X for a range of lists. x [m, d],
    /// without gaps between its rows → [n, d].</summary>
    public void SparseProduct(SparseCodes codes, int firstRow, Mat x, Mat destination)
    {
        using RunningOp op = Enter();
        ArgumentNullException.ThrowIfNull(codes);
        Check.Lists(codes, firstRow, destination.Rows);
        Check.Shape(x, codes.FeatureCount, destination.Columns);
        if (!x.IsDense)
            throw new ArgumentException($"{x} has gaps between its rows.", nameof(x));
        if (destination.Rows > 0)
            SparseProductCore(codes, firstRow, x, destination);
    }

    /// <summary>The same lists with other values: scale·⟨W[r], X[index]⟩ + offset in list r. w [n, d], x [m, d].</summary>
    public void SparseDot(SparseCodes codes, Mat w, Mat x, float scale, float offset, SparseCodes destination)
    {
        using RunningOp op = Enter();
        ArgumentNullException.ThrowIfNull(codes);
        ArgumentNullException.ThrowIfNull(destination);
        Check.Shape(w, codes.Rows, x.Columns);
        Check.Shape(x, codes.FeatureCount, x.Columns);
        if (destination.FeatureCount != codes.FeatureCount || ReferenceEquals(codes, destination))
            throw new ArgumentException($"'{destination.Name}' is not a second room for lists such as '{codes.Name}'.",
                nameof(destination));
        SparseDotCore(codes, w, x, scale, offset, destination);
    }

    /// <summary>
    /// Adam, row by row, with g the gradient times <see cref="AdamStep.Scale"/>: v ← β₂·v + (1 − β₂)·g², p ← p − η·g / (√(v·correction) +
    /// ε), each rounded. With
    /// <see cref="AdamStep.UnitRows"/> g ← g − ⟨g, p⟩·p comes first, and p ← p / ‖p‖ last. A row whose gradient is 0 keeps its parameters,
    /// and its v decays.
    /// </summary>
    /// <param name="gradient">[n, d]; may be overwritten.</param>
    /// <param name="step">The step.</param>
    /// <param name="secondMoment">v [n, d], at first zero.</param>
    /// <param name="parameters">p [n, d].</param>
    /// <param name="squaredNorms">Receives ‖g‖² of each row before anything is taken off it, [n, 1].</param>
    public void AdamRows(Mat gradient, AdamStep step, Mat secondMoment, Mat parameters, Mat squaredNorms)
    {
        using RunningOp op = Enter();
        Check.SameShape(gradient, parameters);
        Check.SameShape(gradient, secondMoment);
        Check.Shape(squaredNorms, gradient.Rows, 1);
        if (gradient.Rows > 0)
            AdamRowsCore(gradient, step, secondMoment, parameters, squaredNorms);
    }

    /// <summary>‖x‖² of each row. x [n, d] → [n, 1].</summary>
    public void SquaredNorms(Mat x, Mat destination)
    {
        using RunningOp op = Enter();
        Check.Shape(destination, x.Rows, 1);
        if (x.Rows > 0)
            SquaredNormsCore(x, destination);
    }

#pragma warning disable CS1591 // The public method of the same name says what each does.
    protected virtual void SaeEncodeNearCore(Mat x, SaeParameters sae, SparseCodes destination, float distance, SparseCodes near)
    {
        ArgumentNullException.ThrowIfNull(sae);
        SaeEncodeCore(x, sae, destination);
        float[] bias = ReadAll(sae.EncoderBias), threshold = ReadAll(sae.Threshold);
        var found = new HostCodes("near", sae.FeatureCount);
        found.Begin(x.Rows);
        int most = (int)Math.Clamp(MostPairsOnHost / sae.FeatureCount, 1, int.MaxValue);
        using DeviceBuffer room = Allocate((long)Math.Min(most, Math.Max(1, x.Rows)) * sae.FeatureCount, "pre-activations");
        for (int first = 0; first < x.Rows; first += most)
        {
            var products = new Mat(room, Math.Min(most, x.Rows - first), sae.FeatureCount);
            LinearCore(x.RowRange(first, products.Rows), sae.Encoder, products);
            float[] values = ReadAll(products);
            for (int r = 0; r < products.Rows; r++)
                AddNear(values.AsSpan(r * sae.FeatureCount, sae.FeatureCount), bias, threshold, distance, found);
        }

        WriteCore(found.List, near);
    }

    protected virtual void TransposeCore(SparseCodes codes, SparseCodes destination)
    {
        ArgumentNullException.ThrowIfNull(codes);
        ArgumentNullException.ThrowIfNull(destination);
        var transposed = new HostCodes(destination.Name, destination.FeatureCount);
        transposed.Transpose(ReadAll(codes), codes.FeatureCount);
        WriteCore(transposed.List, destination);
    }

    protected virtual void ReadLengthsCore(SparseCodes codes, Span<int> destination)
    {
        CodeList list = ReadAll(codes);
        for (int r = 0; r < destination.Length; r++)
            destination[r] = (int)(list.RowStart[r + 1] - list.RowStart[r]);
    }

    protected virtual void SparseProductCore(SparseCodes codes, int firstRow, Mat x, Mat destination)
    {
        CodeList list = ReadAll(codes);
        float[] rows = ReadAll(x), y = new float[destination.Rows * destination.Columns];
        int d = x.Columns;
        for (int r = 0; r < destination.Rows; r++)
        {
            ReadOnlySpan<int> indices = list.FeaturesOf(firstRow + r);
            ReadOnlySpan<float> values = list.ValuesOf(firstRow + r);
            for (int j = 0; j < d; j++)
            {
                double sum = 0;
                for (int n = 0; n < indices.Length; n++)
                    sum += (double)values[n] * rows[((long)indices[n] * d) + j];
                y[(r * d) + j] = (float)sum;
            }
        }

        WriteCore(y, destination);
    }

    protected virtual void SparseDotCore(SparseCodes codes, Mat w, Mat x, float scale, float offset, SparseCodes destination)
    {
        CodeList list = ReadAll(codes);
        float[] left = ReadAll(w), right = ReadAll(x);
        int d = x.Columns;
        for (int r = 0; r < list.Rows; r++)
        {
            for (long n = list.RowStart[r]; n < list.RowStart[r + 1]; n++)
            {
                double sum = 0;
                for (int j = 0; j < d; j++)
                    sum += (double)left[((long)r * d) + j] * right[((long)list.Feature[n] * d) + j];
                list.Value[n] = (float)((sum * scale) + offset);
            }
        }

        WriteCore(list, destination);
    }

    protected virtual void AdamRowsCore(Mat gradient, AdamStep step, Mat secondMoment, Mat parameters, Mat squaredNorms)
    {
        float[] g = ReadAll(gradient), v = ReadAll(secondMoment), p = ReadAll(parameters), norms = new float[gradient.Rows];
        double[] row = new double[gradient.Columns];
        for (int r = 0; r < gradient.Rows; r++)
        {
            int at = r * row.Length;
            norms[r] = AdamRow(g.AsSpan(at, row.Length), step, v.AsSpan(at, row.Length), p.AsSpan(at, row.Length), row);
        }

        WriteCore(v, secondMoment);
        WriteCore(p, parameters);
        WriteCore(norms, squaredNorms);
    }

    protected virtual void SquaredNormsCore(Mat x, Mat destination)
    {
        float[] values = ReadAll(x), norms = new float[x.Rows];
        for (int r = 0; r < x.Rows; r++)
        {
            double sum = 0;
            foreach (float value in values.AsSpan(r * x.Columns, x.Columns))
                sum += (double)value * value;
            norms[r] = (float)sum;
        }

        WriteCore(norms, destination);
    }
#pragma warning restore CS1591

    private static void AddNear(ReadOnlySpan<float> products, float[] bias, float[] threshold, float distance, HostCodes near)
    {
        for (int f = 0; f < products.Length; f++)
        {
            float a = products[f] + bias[f];
            if (Math.Abs(a - threshold[f]) < distance)
                near.Add(f, a);
        }

        near.EndRow();
    }

    private static float AdamRow(ReadOnlySpan<float> gradient, AdamStep step, Span<float> v, Span<float> p, double[] g)
    {
        double squares = 0, along = 0, norm = 0;
        for (int j = 0; j < g.Length; j++)
        {
            g[j] = (double)gradient[j] * step.Scale;
            squares += g[j] * g[j];
            along += g[j] * p[j];
        }

        for (int j = 0; j < g.Length; j++)
        {
            double taken = step.UnitRows ? g[j] - (along * p[j]) : g[j];
            double moment = ((double)step.Decay * v[j]) + ((double)step.Rest * taken * taken);
            v[j] = (float)moment;
            g[j] = p[j] - (step.LearningRate * taken / (Math.Sqrt(moment * step.Correction) + step.Epsilon));
            norm += g[j] * g[j];
        }

        double factor = step.UnitRows ? 1 / Math.Sqrt(norm) : 1;
        for (int j = 0; j < g.Length && squares > 0; j++)
            p[j] = (float)(g[j] * factor);
        return (float)squares;
    }

    private float[] ReadAll(Mat x)
    {
        float[] values = new float[x.Rows * x.Columns];
        ReadCore(x, values);
        return values;
    }

    private CodeList ReadAll(SparseCodes codes)
    {
        var list = new CodeList();
        ReadCore(codes, list);
        return list;
    }
}
