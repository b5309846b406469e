using KernelScope.Devices;

namespace KernelScope.Training;

/// <summary>One step of the recipe on a device: forward, gradients, update (Lieberum et al. 2024, section 3.2; Rajamanoharan et al. 2024,
/// eqs. 11 and 12).</summary>
/// <remarks>
/// With B rows x (centred: x − b_dec for an SAE), z = x W_enc + b_enc, h = [z &gt; θ], f = z·h, e = x̂ − target, K = [|z − θ| &lt; ε/2]:
/// gf = 2/B · e W_decᵀ; gz = (gf + penalty)·h; gW_dec = 2/B · fᵀe; gW_enc = xᵀgz; gb_enc = Σ gz; gb_dec = 2/B · Σ e − Σ gz W_encᵀ (a
/// transcoder: without the second);
/// gθ = Σ K·(−θ/ε·gf − λ/(B·ε)), times θ for log θ. Only the encoder's product is dense: the rest are sums over the (row, feature) pairs
/// where h or K is 1, for each feature over rows in ascending order.
/// Gradients of the weight matrices exist for some features at a time, in memory that stays in the caches.
/// </remarks>
internal sealed class TrainingStep : IDisposable
{
    // Of one block of gradient rows.
    private const long BlockBytes = 2 << 20;

    private readonly Device _device;
    private readonly TrainingParameters _parameters;
    private readonly TrainingOptions _options;
    private readonly ActivationRule _rule;
    private readonly List<IDisposable> _owned = [];
    private readonly int _batch;
    private readonly SparseCodes _active, _near, _activeOf, _nearOf, _codeGradients, _nearGradients, _allFeatures, _allRows;
    private readonly Mat _error, _rowSums, _ones, _sums, _nearSums, _encoderBlock, _decoderBlock, _squares, _outputSums, _inputSums,
        _vector;
    private readonly Mat? _skipped, _skipGradient;
    private readonly int[] _nearCounts;
    private readonly float[] _host;
    private readonly CodeList _list = new();
    private bool _isMeasuring;

    public TrainingStep(Device device, TrainingParameters parameters, TrainingOptions options, ActivationRule rule)
    {
        (_device, _parameters, _options, _rule, _batch) = (device, parameters, options, rule, options.Batch);
        int width = parameters.Width, inputs = parameters.InputDim, outputs = parameters.OutputDim;
        try
        {
            _active = Codes(width, "active features");
            _near = Codes(width, "features near their thresholds");
            _activeOf = Codes(_batch, "rows of active features");
            _nearOf = Codes(_batch, "rows of features near their thresholds");
            _codeGradients = Codes(_batch, "gradients of codes");
            _nearGradients = Codes(_batch, "gradients near thresholds");
            _allFeatures = Codes(width, "gradients of all features");
            _allRows = Codes(_batch, "all rows");
            _error = Create(_batch, outputs, "errors");
            _rowSums = Create(_batch, 1, "squared errors");
            _ones = Create(_batch, 1, "ones");
            _sums = Create(width, 1, "gradient of b_enc");
            _nearSums = Create(width, 1, "sums near thresholds");
            _encoderBlock = Create(BlockRows(inputs), inputs, "gradient of W_enc");
            _decoderBlock = Create(BlockRows(outputs), outputs, "gradient of W_dec");
            _squares = Create(Math.Max(Math.Max(_encoderBlock.Rows, _decoderBlock.Rows), outputs), 1, "squared norms of gradients");
            _outputSums = Create(1, outputs, "sums of errors");
            _inputSums = Create(1, inputs, "gradient of b_dec through the encoder");
            _vector = Create(1, Math.Max(width, outputs), "gradient of a vector");
            if (parameters.Skip is not null)
            {
                _skipped = Create(_batch, outputs, "skip path");
                _skipGradient = Create(outputs, inputs, "gradient of W_skip");
            }

            float[] ones = new float[_batch];
            Array.Fill(ones, 1f);
            device.Write(ones, _ones);
            device.Write(OneList(ones), _allRows);
        }
        catch
        {
            Dispose();
            throw;
        }

        Sparsity = new SparsityControl(options, parameters.IsTranscoder);
        Fired = new int[width];
        _nearCounts = new int[width];
        _host = new float[Math.Max(width, Math.Max(_batch, outputs))];
    }

    /// <summary>λ.</summary>
    public SparsityControl Sparsity { get; }

    /// <summary>In how many rows of the last batch each feature was active.</summary>
    public int[] Fired { get; }

    /// <summary>Told each gradient as it is found: which matrix, the first row, and the gradient after and before a component along unit
    /// rows was taken off. For tests.</summary>
    public Action<string, int, float[]>? GradientFound { get; set; }

    /// <summary>‖gradient‖² of each matrix in the last step that was asked for it, before clipping.</summary>
    public Dictionary<string, double> SquaredGradients { get; } = [];

    /// <summary>Does a step.</summary>
    /// <param name="step">Its number, from 0 on.</param>
    /// <param name="x">Scaled inputs [B, d_in]. An SAE's are changed: b_dec is taken off.</param>
    /// <param name="target">A transcoder's scaled targets [B, d_out]; of an SAE not read.</param>
    /// <param name="norms">Whether <see cref="SquaredGradients"/> is wanted.</param>
    public StepResult Run(long step, Mat x, Mat target, bool norms)
    {
        double lambda = Sparsity.At(step);
        var adam = new AdamStep(step, _options.LearningRateAt(step));
        SquaredGradients.Clear();
        Forward(x, target);
        double error = SumOf(_rowSums);
        FindPairs(lambda);
        long near = 0;
        foreach (int count in _nearCounts)
            near += count;
        var result = new StepResult
        {
            Rows = _batch,
            SquaredError = error,
            Active = Fired.Sum(n => (long)n),
            Near = near,
            CodeSum = _rule.CodeGradient(1, 1) > 0 ? SumOfCodes() : 0,
            Lambda = lambda,
            LearningRate = adam.LearningRate,
        };
        Update(x, adam, lambda, norms);
        Sparsity.Learn(step, (double)result.Active / _batch);
        return result;
    }

    /// <summary>x̂ of rows that nothing is learned from, minus the target, and the active features.</summary>
    /// <param name="x">As in <see cref="Run"/>, of any number of rows up to the batch.</param>
    /// <param name="target">As in <see cref="Run"/>.</param>
    /// <param name="codes">Receives the codes, in the scale of training.</param>
    /// <returns>Σ ‖e‖².</returns>
    public double Apply(Mat x, Mat target, CodeList codes)
    {
        Center(x);
        _rule.EncodeForUse(x, _parameters.Sae, _active);
        Subtract(x, target);
        _device.Read(_active, codes);
        return SumOf(_rowSums.RowRange(0, x.Rows));
    }

    public void Dispose()
    {
        foreach (IDisposable owned in _owned)
            owned.Dispose();
    }

    private void Forward(Mat x, Mat target)
    {
        Center(x);
        if (_parameters.Threshold is null)
            _rule.Encode(x, _parameters.Sae, _active);
        else
            _device.SaeEncodeNear(x, _parameters.Sae, _active, (float)(_options.Bandwidth / 2), _near);
        Subtract(x, target);
    }

    private void Center(Mat x)
    {
        if (!_parameters.IsTranscoder)
            _device.AddScaled(_parameters.DecoderBias.Values, -1f, x);
    }

    /// <summary>e, and ‖e‖² of each row.</summary>
    private void Subtract(Mat x, Mat target)
    {
        Mat error = _error.RowRange(0, x.Rows);
        _device.SaeDecode(_active, _parameters.Sae, error);
        if (_skipped is { } room)
        {
            Mat skipped = room.RowRange(0, x.Rows);
            _device.Linear(x, _parameters.SkipWeight!, skipped);
            _device.AddScaled(skipped, 1f, error);
        }

        _device.AddScaled(_parameters.IsTranscoder ? target : x, -1f, error);
        _device.SquaredNorms(error, _rowSums.RowRange(0, x.Rows));
    }

    /// <summary>Turns the lists round and finds the gradient of each code.</summary>
    private void FindPairs(double lambda)
    {
        float scale = 2f / _batch;
        _device.Transpose(_active, _activeOf);
        _device.ReadLengths(_activeOf, Fired);
        _device.SparseDot(_activeOf, _parameters.Decoder.Values, _error, scale, (float)_rule.CodeGradient(lambda, _batch), _codeGradients);
        _device.SparseProduct(_codeGradients, 0, _ones, _sums);
        if (_parameters.Threshold is null)
            return;
        _device.Transpose(_near, _nearOf);
        _device.ReadLengths(_nearOf, _nearCounts);
        _device.SparseDot(_nearOf, _parameters.Decoder.Values, _error, scale, 0, _nearGradients);
        _device.SparseProduct(_nearGradients, 0, _ones, _nearSums);
    }

    private void Update(Mat x, AdamStep adam, double lambda, bool norms)
    {
        // While W_enc is what it was in the forward pass.
        float[] output = DecoderBiasGradient();
        if (_options.Clip > 0)
        {
            // The norm of all comes before the first step, and blocks of gradients are not kept: they are made twice.
            _isMeasuring = true;
            UpdateAll(x, output, adam, lambda, norms: true);
            _isMeasuring = false;
            double norm = Math.Sqrt(SquaredGradients.Values.Sum());
            adam = adam with { Scale = (float)Math.Min(1, _options.Clip / norm) };
            norms = false;
        }

        UpdateAll(x, output, adam, lambda, norms);
    }

    private void UpdateAll(Mat x, float[] output, AdamStep adam, double lambda, bool norms)
    {
        AdamStep scaled = adam with { Scale = 2f / _batch * adam.Scale };
        UpdateSkip(x, scaled, norms);
        UpdateRows(_parameters.Decoder, _activeOf, _error, _decoderBlock, scaled with { UnitRows = true }, norms);
        UpdateRows(_parameters.Encoder, _codeGradients, x, _encoderBlock, adam, norms);
        UpdateVector(_parameters.DecoderBias, output, adam, norms);
        UpdateVector(_parameters.EncoderBias, ReadSums(_sums).ToArray(), adam, norms);
        if (_parameters.Threshold is { } threshold)
            UpdateThreshold(threshold, adam, lambda, norms);
    }

    private float[] DecoderBiasGradient()
    {
        _device.SparseProduct(_allRows, 0, _error, _outputSums);
        float[] gradient = _parameters.Read(_outputSums);
        for (int j = 0; j < gradient.Length; j++)
            gradient[j] *= 2f / _batch;
        if (_parameters.IsTranscoder)
            return gradient;
        _device.Write(OneList(ReadSums(_sums)), _allFeatures);
        _device.SparseProduct(_allFeatures, 0, _parameters.Encoder.Values, _inputSums);
        float[] through = _parameters.Read(_inputSums);
        for (int j = 0; j < gradient.Length; j++)
            gradient[j] -= through[j];
        return gradient;
    }

    private void UpdateRows(TrainedMatrix matrix, SparseCodes pairs, Mat x, Mat block, AdamStep adam, bool norms)
    {
        for (int first = 0; first < matrix.Values.Rows; first += block.Rows)
        {
            int count = Math.Min(block.Rows, matrix.Values.Rows - first);
            Mat gradient = block.RowRange(0, count);
            _device.SparseProduct(pairs, first, x, gradient);
            Step(matrix.Name, first, gradient, adam, matrix.Moment.RowRange(first, count), matrix.Values.RowRange(first, count), norms);
        }
    }

    private void UpdateSkip(Mat x, AdamStep adam, bool norms)
    {
        if (_parameters.Skip is not { } skip)
            return;
        // The errors as lists of all outputs, transposed: few train a skip path, and its matrix is small beside the others.
        using SparseCodes rows = _device.CreateCodes(_parameters.OutputDim, "errors as lists"), columns = _device.CreateCodes(_batch,
            "errors by output");
        _device.Write(FullLists(_parameters.Read(_error), _parameters.OutputDim), rows);
        _device.Transpose(rows, columns);
        _device.SparseProduct(columns, 0, x, _skipGradient!.Value);
        Step(skip.Name, 0, _skipGradient.Value, adam, skip.Moment, skip.Values, norms);
    }

    private void UpdateThreshold(TrainedMatrix threshold, AdamStep adam, double lambda, bool norms)
    {
        float[] theta = _parameters.Read(_parameters.Theta), gradient = new float[theta.Length];
        ReadOnlySpan<float> sums = ReadSums(_nearSums);
        double epsilon = _options.Bandwidth;
        for (int f = 0; f < gradient.Length; f++)
        {
            double g = (-theta[f] / epsilon * sums[f]) - (lambda / (_batch * epsilon) * _nearCounts[f]);
            gradient[f] = (float)(_parameters.IsLogThreshold ? g * theta[f] : g);
        }

        UpdateVector(threshold, gradient, adam, norms);
        if (_isMeasuring)
            return;
        float[] learned = _parameters.Read(threshold.Values);
        if (_options.ThresholdFloor > 0)
        {
            float floor = (float)_options.ThresholdFloor;
            foreach (ref float value in learned.AsSpan())
                value = value < floor ? floor : value;
            _device.Write(learned, threshold.Values);
        }

        theta = _parameters.UpdateTheta(learned);
        int bad = Array.FindIndex(theta, value => !(value > 0 && float.IsFinite(value)));
        if (bad >= 0)
            throw new TrainingException($"feature {bad} got the threshold {theta[bad]}, which must stay above 0 and finite; a lower " +
                "learning rate, a wider bandwidth, --theta-min or --parameter log_theta helps.");
    }

    private void UpdateVector(TrainedMatrix vector, float[] gradient, AdamStep adam, bool norms)
    {
        var room = new Mat(_vector.Buffer, 1, gradient.Length);
        _device.Write(gradient, room);
        Step(vector.Name, 0, room, adam, vector.Moment, vector.Values, norms);
    }

    private void Step(string name, int firstRow, Mat gradient, AdamStep adam, Mat moment, Mat values, bool norms)
    {
        Mat squares = _squares.RowRange(0, gradient.Rows);
        if (_isMeasuring)
        {
            _device.SquaredNorms(gradient, squares);
            SquaredGradients[name] = SquaredGradients.GetValueOrDefault(name) + (SumOf(squares) * adam.Scale * adam.Scale);
            return;
        }

        if (GradientFound is { } found)
        {
            float[] host = _parameters.Read(gradient);
            for (int n = 0; n < host.Length; n++)
                host[n] *= adam.Scale;
            found(name, firstRow, host);
        }

        _device.AdamRows(gradient, adam, moment, values, squares);
        if (norms)
            SquaredGradients[name] = SquaredGradients.GetValueOrDefault(name) + SumOf(squares);
    }

    private double SumOf(Mat column)
    {
        Span<float> values = _host.AsSpan(0, column.Rows);
        _device.Read(column, values);
        double sum = 0;
        foreach (float value in values)
            sum += value;
        return sum;
    }

    private double SumOfCodes()
    {
        _device.Read(_active, _list);
        double sum = 0;
        foreach (float value in _list.Value.AsSpan(0, _list.Count))
            sum += value;
        return sum;
    }

    /// <summary>The values of a column, until the next call.</summary>
    private ReadOnlySpan<float> ReadSums(Mat column)
    {
        Span<float> values = _host.AsSpan(0, column.Rows);
        _device.Read(column, values);
        return values;
    }

    private static CodeList OneList(ReadOnlySpan<float> values) => FullLists(values, values.Length);

    private static CodeList FullLists(ReadOnlySpan<float> values, int columns)
    {
        var list = new CodeList();
        list.Resize(values.Length / columns, values.Length);
        for (int r = 0; r <= list.Rows; r++)
            list.RowStart[r] = (long)r * columns;
        for (int n = 0; n < values.Length; n++)
            list.Feature[n] = n % columns;
        values.CopyTo(list.Value);
        return list;
    }

    private static int BlockRows(int columns) => (int)Math.Clamp(BlockBytes / sizeof(float) / columns, 16, 4096);

    private SparseCodes Codes(int featureCount, string name)
    {
        SparseCodes codes = _device.CreateCodes(featureCount, name);
        _owned.Add(codes);
        return codes;
    }

    private Mat Create(int rows, int columns, string name)
    {
        Mat matrix = _device.CreateMat(rows, columns, name);
        _owned.Add(matrix.Buffer);
        return matrix;
    }
}
