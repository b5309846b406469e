namespace KernelScope.Training;

/// <summary>A trained SAE or transcoder in plain form: a = x W_enc + b_enc on raw rows, active where a &gt; θ, x̂ = a W_dec + b_dec.
/// Float32, rounded once from sums in double.</summary>
/// <remarks>Codes are C times those of training; the active sets are the same but for pre-activations at their thresholds to float32.
/// Immutable: any number of threads may use it.</remarks>
public sealed class FoldedSae
{
    private FoldedSae()
    {
    }

    /// <summary>The activation function that was trained.</summary>
    public required TrainingActivation Activation { get; init; }

    /// <summary>k of TopK; 0 for the other kinds.</summary>
    public required int K { get; init; }

    /// <summary>d_in: width of what it reads.</summary>
    public required int InputDim { get; init; }

    /// <summary>d_out: width of what it writes.</summary>
    public required int OutputDim { get; init; }

    /// <summary>d_sae: number of features.</summary>
    public required int Width { get; init; }

    /// <summary>Whether it maps one site to another.</summary>
    public required bool IsTranscoder { get; init; }

    /// <summary>W_enc [d_in, d_sae].</summary>
    public required ReadOnlyMemory<float> Encoder { get; init; }

    /// <summary>b_enc [d_sae].</summary>
    public required ReadOnlyMemory<float> EncoderBias { get; init; }

    /// <summary>θ [d_sae]; zeros for ReLU and TopK.</summary>
    public required ReadOnlyMemory<float> Threshold { get; init; }

    /// <summary>W_dec [d_sae, d_out], unit rows.</summary>
    public required ReadOnlyMemory<float> Decoder { get; init; }

    /// <summary>b_dec [d_out].</summary>
    public required ReadOnlyMemory<float> DecoderBias { get; init; }

    /// <summary>W_skip [d_out, d_in]; empty where there is none.</summary>
    public required ReadOnlyMemory<float> Skip { get; init; }

    /// <summary>The L0 that λ was steered to, and the λ that this led to; null where λ was given.</summary>
    internal (double L0, double Sparsity)? Target { get; private init; }

    /// <summary>What each feature's codes are multiplied by beside C, so that decoder rows stay unit vectors where inputs and targets have
    /// different scales: C_out/C for a transcoder, else 1.</summary>
    internal double CodeFactor { get; private init; }

    /// <summary>
    /// b_enc' = C·b_enc − C·(b_dec W_enc); θ' = C·θ; b_dec' = C·b_dec. A transcoder: rows of W_dec would be C_out/C long; they stay unit,
    /// and W_enc, b_enc and θ take the factor; b_dec' = C_out·b_dec, W_skip' = (C_out/C)·W_skip.
    /// </summary>
    internal static FoldedSae Create(SaeTrainer trainer)
    {
        TrainingParameters p = trainer.Parameters;
        double c = trainer.Scale, ratio = trainer.TargetScale / c;
        float[] decoderBias = p.Read(p.DecoderBias.Values), encoderBias = p.Read(p.EncoderBias.Values);
        float[] encoder = FoldEncoder(trainer, encoderBias, p.IsTranscoder ? [] : decoderBias, c, ratio);
        return new FoldedSae
        {
            Activation = trainer.Options.Activation,
            K = trainer.Options.Activation == TrainingActivation.TopK ? trainer.Options.K : 0,
            InputDim = p.InputDim,
            OutputDim = p.OutputDim,
            Width = p.Width,
            IsTranscoder = p.IsTranscoder,
            Encoder = encoder,
            EncoderBias = encoderBias,
            Threshold = Thresholds(trainer, c * ratio),
            Decoder = p.Read(p.Decoder.Values),
            DecoderBias = Scaled(decoderBias, trainer.TargetScale),
            Skip = p.Skip is { } skip ? Scaled(p.Read(skip.Values), ratio) : [],
            Target = trainer.SteeredSparsity is double steered ? (trainer.Options.TargetL0, steered) : null,
            CodeFactor = ratio,
        };
    }

    /// <summary>Gives W_enc, turned, and folds b_enc in its place. A block of rows is read at a time, so that there is one copy.</summary>
    private static float[] FoldEncoder(SaeTrainer trainer, float[] bias, float[] before, double c, double ratio)
    {
        const int BlockRows = 256;
        TrainingParameters p = trainer.Parameters;
        int inputs = p.InputDim;
        float[] turned = new float[checked(p.Width * inputs)], rows = new float[BlockRows * inputs];
        for (int first = 0; first < p.Width; first += BlockRows)
        {
            int count = Math.Min(BlockRows, p.Width - first);
            trainer.Device.Read(p.Encoder.Values.RowRange(first, count), rows.AsSpan(0, count * inputs));
            for (int r = 0; r < count; r++)
            {
                double taken = 0;
                for (int i = 0; i < before.Length; i++)
                    taken += (double)before[i] * rows[(r * inputs) + i];
                bias[first + r] = (float)(c * ratio * (bias[first + r] - taken));
                for (int i = 0; i < inputs; i++)
                    turned[((long)i * p.Width) + first + r] = (float)(ratio * rows[(r * inputs) + i]);
            }
        }

        return turned;
    }

    private static float[] Thresholds(SaeTrainer trainer, double scale)
    {
        TrainingParameters p = trainer.Parameters;
        if (trainer.CommonThreshold is { } common)
        {
            float[] all = new float[p.Width];
            Array.Fill(all, (float)(scale * common));
            return all;
        }

        // From the logarithm itself where that is what was learned.
        return p is { Threshold: { } learned, IsLogThreshold: true }
            ? [.. p.Read(learned.Values).Select(value => (float)(scale * Math.Exp(value)))]
            : Scaled(p.Read(p.Theta), scale);
    }

    private static float[] Scaled(float[] values, double scale) => [.. values.Select(value => (float)(scale * value))];
}
