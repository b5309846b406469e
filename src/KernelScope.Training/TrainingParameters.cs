using KernelScope.Devices;

namespace KernelScope.Training;

/// <summary>A matrix that is learned: its values, and Adam's second moment of each.</summary>
internal readonly record struct TrainedMatrix(string Name, Mat Values, Mat Moment);

/// <summary>The parameters in training form, on inputs divided by C: features are rows of both weight matrices.</summary>
internal sealed class TrainingParameters : IDisposable
{
    private readonly List<IDisposable> _owned = [];
    private readonly Device _device;

    public TrainingParameters(Device device, int inputDim, int? targetDim, TrainingOptions options)
    {
        _device = device;
        InputDim = inputDim;
        OutputDim = targetDim ?? inputDim;
        IsTranscoder = targetDim is not null;
        IsLogThreshold = options.Parameter == ThresholdParameter.LogTheta;
        int width = options.Width;
        try
        {
            Encoder = Trained("W_enc", width, InputDim);
            Decoder = Trained("W_dec", width, OutputDim);
            EncoderBias = Trained("b_enc", 1, width);
            DecoderBias = Trained("b_dec", 1, OutputDim);
            if (options.Activation == TrainingActivation.JumpRelu)
                Threshold = Trained("threshold", 1, width);
            if (options.Skip)
                Skip = Trained("W_skip", OutputDim, InputDim);
            Theta = Create("theta", 1, width);
            // An SAE decodes around b_dec, which was taken off its input: there it cancels.
            Mat bias = IsTranscoder ? DecoderBias.Values : Create("no bias", 1, OutputDim);
            Sae = new SaeParameters(
                Own(device.CreateWeight("W_enc", Encoder.Values)), EncoderBias.Values, Theta, Own(device.CreateWeight("W_dec",
                    Decoder.Values, transposed: true)), bias);
            if (Skip is { } skip)
                SkipWeight = Own(device.CreateWeight("W_skip", skip.Values));
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    public int InputDim { get; }

    public int OutputDim { get; }

    public bool IsTranscoder { get; }

    public bool IsLogThreshold { get; }

    public int Width => Encoder.Values.Rows;

    /// <summary>W_enc transposed, [d_sae, d_in].</summary>
    public TrainedMatrix Encoder { get; }

    /// <summary>W_dec, [d_sae, d_out], unit rows.</summary>
    public TrainedMatrix Decoder { get; }

    public TrainedMatrix EncoderBias { get; }

    public TrainedMatrix DecoderBias { get; }

    /// <summary>θ or log θ, [1, d_sae]; none where no threshold is learned.</summary>
    public TrainedMatrix? Threshold { get; }

    /// <summary>W_skip, [d_out, d_in].</summary>
    public TrainedMatrix? Skip { get; }

    public Weight? SkipWeight { get; }

    /// <summary>θ, [1, d_sae]; 0 where none is learned.</summary>
    public Mat Theta { get; }

    /// <summary>What encodes and decodes: reads the matrices above where they lie.</summary>
    public SaeParameters Sae { get; }

    /// <summary>Everything that is learned.</summary>
    public IEnumerable<TrainedMatrix> All => ((TrainedMatrix?[])[Encoder, Decoder, EncoderBias, DecoderBias, Threshold,
        Skip]).Where(m => m is not null).Select(m => m!.Value);

    /// <summary>The first weights: rows of W_dec uniform on a cube, made unit; W_enc the same for an SAE and of its own for a transcoder;
    /// biases 0.</summary>
    public void Initialize(TrainingOptions options, string identity)
    {
        FillUniform(new Xoshiro256(identity, options.Seed, "W_dec"), unitRows: true, IsTranscoder ? [Decoder.Values]
            : [Decoder.Values, Encoder.Values]);
        if (IsTranscoder)
            FillUniform(new Xoshiro256(identity, options.Seed, "W_enc"), unitRows: false, Encoder.Values);
        if (Threshold is { } threshold)
        {
            float[] first = new float[Width];
            Array.Fill(first, (float)(IsLogThreshold ? Math.Log(options.Threshold) : options.Threshold));
            _device.Write(first, threshold.Values);
            UpdateTheta(first);
        }
    }

    /// <summary>Brings θ up to date with what is learned of it, and gives it.</summary>
    public float[] UpdateTheta(float[] learned)
    {
        float[] theta = learned;
        if (IsLogThreshold)
            theta = [.. learned.Select(value => (float)Math.Exp(value))];
        _device.Write(theta, Theta);
        return theta;
    }

    public float[] Read(Mat matrix)
    {
        float[] values = new float[checked(matrix.Rows * matrix.Columns)];
        _device.Read(matrix, values);
        return values;
    }

    /// <summary>Frees Adam's second moments, after the last step and the last checkpoint.</summary>
    public void ReleaseMoments()
    {
        foreach (TrainedMatrix matrix in All)
            matrix.Moment.Buffer.Dispose();
    }

    public void Dispose()
    {
        foreach (IDisposable owned in _owned)
            owned.Dispose();
    }

    /// <summary>Fills matrices with the same values, some rows at a time: all of them on the host, too, would be memory that nobody
    /// planned.</summary>
    private void FillUniform(Xoshiro256 random, bool unitRows, params ReadOnlySpan<Mat> matrices)
    {
        const int BlockRows = 256;
        int columns = matrices[0].Columns;
        float[] values = new float[checked(BlockRows * columns)];
        double bound = Math.Sqrt(6.0 / columns);
        for (int first = 0; first < Width; first += BlockRows)
        {
            int count = Math.Min(BlockRows, Width - first);
            for (int r = 0; r < count; r++)
                FillRow(values.AsSpan(r * columns, columns), random, bound, unitRows);
            foreach (Mat matrix in matrices)
                _device.Write(values.AsSpan(0, count * columns), matrix.RowRange(first, count));
        }
    }

    private static void FillRow(Span<float> row, Xoshiro256 random, double bound, bool unitRow)
    {
        double squares = 0;
        foreach (ref float value in row)
        {
            value = (float)(bound * ((2 * random.Uniform()) - 1));
            squares += (double)value * value;
        }

        double factor = unitRow ? 1 / Math.Sqrt(squares) : 1;
        foreach (ref float value in row)
            value = (float)(value * factor);
    }

    private TrainedMatrix Trained(string name, int rows, int columns) => new(name, Create(name, rows, columns),
        Create($"second moment of {name}", rows, columns));

    private Mat Create(string name, int rows, int columns)
    {
        Mat matrix = _device.CreateMat(rows, columns, name);
        _owned.Add(matrix.Buffer);
        return matrix;
    }

    private Weight Own(Weight weight)
    {
        _owned.Add(weight);
        return weight;
    }
}
