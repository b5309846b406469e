using System.Numerics;
using System.Runtime.InteropServices;
using KernelScope.Devices;

namespace KernelScope.Training;

/// <summary>Trains an SAE or transcoder on rows of activations, step by step (Lieberum et al. 2024, sections 2 and 3).</summary>
/// <remarks>
/// Loss = mean over rows of ‖x̂ − x‖² + λ·L0, x divided by a fixed C so that ‖x‖² is 1 on average. The same rows, options and device
/// arithmetic give the same bits at any number of threads.
/// For one caller at a time.
/// <code>
/// using var rows = StoredRows.Open("acts.safetensors", "resid_post.3");
/// using var trainer = new SaeTrainer(device, rows, new TrainingOptions { Width = 2048, Sparsity = 1e-3, Steps = 5000, Batch = 1024,
/// LearningRate = 1e-3 });
/// while (trainer.Step &lt; trainer.Options.Steps)
///     trainer.Advance();
/// FoldedSae sae = trainer.Fold();
/// </code>
/// </remarks>
public sealed class SaeTrainer : IDisposable
{
    private readonly ActivationRule _rule;
    private readonly TrainingStep _step;
    private readonly DeviceRoom _inputs, _targets;
    private readonly long[] _lastFired;

    /// <summary>Makes the first weights; no step is done yet.</summary>
    /// <param name="device">Where; it outlives the trainer.</param>
    /// <param name="rows">What it learns from; they outlive the trainer.</param>
    /// <param name="options">How.</param>
    /// <exception cref="ArgumentException">The options cannot be used with these rows.</exception>
    /// <exception cref="NotSupportedException">The device does not train.</exception>
    public SaeTrainer(Device device, ITrainingRows rows, TrainingOptions options)
    {
        ArgumentNullException.ThrowIfNull(device);
        ArgumentNullException.ThrowIfNull(rows);
        ArgumentNullException.ThrowIfNull(options);
        options.Require();
        if (rows.TargetWidth is null && (options.Skip || options.ScaleOut is not null))
            throw new ArgumentException("A skip path and a scale of targets are for transcoders; these rows have no targets.",
                nameof(options));
        (Device, Rows, Options) = (device, rows, options);
        // Transcoders as the paper's appendix has them: their inputs are normed, so that √d is their length.
        bool isTranscoder = rows.TargetWidth is not null;
        Scale = (float)(options.Scale ?? Math.Sqrt(isTranscoder ? rows.Width : rows.MeanSquaredNorm));
        if (options.Scale is null && !TrainingOptions.IsScale(Scale))
            throw new InvalidDataException($"The mean squared norm of the rows of {rows.Identity} is {rows.MeanSquaredNorm}, which " +
                "gives no scale that float32 can compute with.");
        TargetScale = isTranscoder ? (float)(options.ScaleOut ?? Math.Sqrt(rows.Width)) : Scale;
        Parameters = new TrainingParameters(device, rows.Width, rows.TargetWidth, options);
        Parameters.Initialize(options, rows.Identity);
        _rule = ActivationRule.Create(device, options);
        _step = new TrainingStep(device, Parameters, options, _rule);
        _inputs = new DeviceRoom(device, options.Batch, rows.Width, "inputs");
        _targets = new DeviceRoom(device, rows.TargetWidth is null ? 0 : options.Batch, rows.TargetWidth ?? 0, "targets");
        _lastFired = new long[options.Width];
        Interval = new IntervalSums(Parameters.OutputDim);
    }

    /// <summary>The device that computes.</summary>
    public Device Device { get; }

    /// <summary>The rows that it learns from.</summary>
    public ITrainingRows Rows { get; }

    /// <summary>The recipe.</summary>
    public TrainingOptions Options { get; }

    /// <summary>C, by which inputs are divided: a float32.</summary>
    public double Scale { get; }

    /// <summary>The same for targets; that of inputs where a row is its own.</summary>
    public double TargetScale { get; }

    /// <summary>Number of steps done.</summary>
    public long Step { get; internal set; }

    /// <summary>Number of features that were active on none of the last <see cref="TrainingOptions.DeadRows"/> rows.</summary>
    public int Dead => _lastFired.Count(last => Rows.Position - last >= Options.DeadRows);

    internal TrainingParameters Parameters { get; }

    /// <summary>What was summed since it was last cleared.</summary>
    internal IntervalSums Interval { get; }

    /// <summary>L0 over the last interval that was logged; 0 before.</summary>
    internal double LastL0 { get; set; }

    /// <summary>λ as a target L0 has steered it so far; null where the options say what it is.</summary>
    internal double? SteeredSparsity => Options.TargetL0 > 0 ? Sparsity.Value : null;

    /// <summary>λ of each step.</summary>
    internal SparsityControl Sparsity => _step.Sparsity;

    internal double? CommonThreshold { get => _rule.CommonThreshold; set => _rule.CommonThreshold = value; }

    internal long[] LastFired => _lastFired;

    /// <summary>‖gradient‖ of each matrix in the last step that measured it.</summary>
    internal IReadOnlyDictionary<string, double> SquaredGradients => _step.SquaredGradients;

    /// <summary>Bytes of the parameters and their second moments.</summary>
    public static long ParameterBytes(TrainingOptions options, int width, int? targetWidth)
    {
        ArgumentNullException.ThrowIfNull(options);
        long outputs = targetWidth ?? width, skip = options.Skip ? outputs * width : 0;
        return 2 * sizeof(float) * (((long)options.Width * (width + outputs + 2)) + outputs + skip);
    }

    /// <summary>Bytes of a batch: inputs, targets and errors.</summary>
    public static long BatchBytes(TrainingOptions options, int width, int? targetWidth)
    {
        ArgumentNullException.ThrowIfNull(options);
        return sizeof(float) * (long)options.Batch * (width + (targetWidth ?? 0) + (targetWidth ?? width));
    }

    /// <summary>Takes the next rows and learns from them.</summary>
    /// <exception cref="TrainingException">A threshold or the loss left its range; parameters are then of no use.</exception>
    /// <exception cref="InvalidDataException">The rows are damaged.</exception>
    public void Advance() => Advance(norms: false);

    internal void Advance(bool norms)
    {
        Span<float> inputs = _inputs.Host, targets = _targets.Host;
        Rows.Next(inputs, targets);
        Divide(inputs, Scale);
        Divide(targets, TargetScale);
        Interval.AddTargets(Parameters.IsTranscoder ? targets : inputs);
        _inputs.Send();
        _targets.Send();
        StepResult result;
        try
        {
            result = _step.Run(Step, _inputs.Values, _targets.Values, norms);
        }
        catch (TrainingException e)
        {
            throw new TrainingException($"step {Step}: {e.Message}", e);
        }

        if (!double.IsFinite(result.SquaredError))
            throw new TrainingException($"step {Step}: the loss is not finite any more; a lower learning rate helps.");
        Interval.Add(result, Options.Activation);
        for (int f = 0; f < _lastFired.Length; f++)
        {
            if (_step.Fired[f] > 0)
                _lastFired[f] = Rows.Position;
        }

        Step++;
    }

    /// <summary>Measures it on the rows that were kept back.</summary>
    /// <returns>Null where none were.</returns>
    public ValidationResult? Validate()
    {
        if (Rows.ValidationRows == 0)
            return null;
        var sums = new IntervalSums(Parameters.OutputDim);
        long[] fired = new long[Options.Width];
        var codes = new CodeList();
        for (long first = 0; first < Rows.ValidationRows; first += Options.Batch)
        {
            sums.SquaredError += EncodeValidation(first, codes, sums);
            sums.Active += codes.Count;
            sums.Rows += codes.Rows;
            foreach (int feature in codes.Feature.AsSpan(0, codes.Count))
                fired[feature]++;
        }

        return new ValidationResult
        {
            Step = Step,
            Rows = sums.Rows,
            L0 = sums.L0,
            Fvu = sums.Fvu,
            Mse = sums.Mse,
            FiringHistogram = Histogram(fired, sums.Rows)
        };
    }

    /// <summary>The plain form: for raw rows, without a scale or a bias before the encoder.</summary>
    public FoldedSae Fold() => FoldedSae.Create(this);

    /// <inheritdoc/>
    public void Dispose()
    {
        _step.Dispose();
        _rule.Dispose();
        Parameters.Dispose();
        _inputs.Dispose();
        _targets.Dispose();
    }

    /// <summary>The codes, in the scale of training, of a batch of rows that were kept back, and Σ ‖e‖².</summary>
    internal double EncodeValidation(long first, CodeList codes, IntervalSums? sums = null)
    {
        int rows = (int)Math.Min(Options.Batch, Rows.ValidationRows - first);
        Span<float> inputs = _inputs.Host[..(rows * Rows.Width)], targets = _targets.Host[..(rows * (Rows.TargetWidth ?? 0))];
        Rows.ReadValidation(first, inputs, targets);
        Divide(inputs, Scale);
        Divide(targets, TargetScale);
        sums?.AddTargets(Parameters.IsTranscoder ? targets : inputs);
        _inputs.Send();
        _targets.Send();
        return _step.Apply(_inputs.Values.RowRange(0, rows), Parameters.IsTranscoder ? _targets.Values.RowRange(0, rows) : default, codes);
    }

    private static void Divide(Span<float> values, double scale)
    {
        float divisor = (float)scale;
        Span<Vector<float>> vectors = MemoryMarshal.Cast<float, Vector<float>>(values);
        foreach (ref Vector<float> vector in vectors)
            vector /= divisor;
        foreach (ref float value in values[(vectors.Length * Vector<float>.Count)..])
            value /= divisor;
    }

    private static int[] Histogram(long[] fired, long rows)
    {
        int[] counts = new int[7];
        foreach (long n in fired)
            counts[n == 0 ? 0 : Math.Clamp(6 + (int)Math.Floor(Math.Log10((double)n / rows)) + 1, 1, 6)]++;
        return counts;
    }
}
