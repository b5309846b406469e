namespace KernelScope.Devices;

/// <summary>The parameters of a JumpReLU, ReLU or TopK SAE or transcoder on a device.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public sealed record SaeParameters
{
    /// <summary>The parameters of an SAE or transcoder on a device.</summary>
    /// <param name="encoder">W_enc as a weight [d_sae, d_in] (the file has it transposed, [d_in, d_sae]).</param>
    /// <param name="encoderBias">b_enc, [1, d_sae].</param>
    /// <param name="threshold">θ, [1, d_sae]; zeros make it a ReLU SAE.</param>
    /// <param name="decoder">W_dec as a weight [d_out, d_sae] (the file has it transposed, [d_sae, d_out]: a feature's row is contiguous).</param>
    /// <param name="decoderBias">b_dec, [1, d_out].</param>
    public SaeParameters(Weight encoder, Mat encoderBias, Mat threshold, Weight decoder, Mat decoderBias)
    {
        Encoder = encoder;
        EncoderBias = encoderBias;
        Threshold = threshold;
        Decoder = decoder;
        DecoderBias = decoderBias;
    }

    /// <summary>W_enc as a weight [d_sae, d_in] (the file has it transposed, [d_in, d_sae]).</summary>
    public Weight Encoder { get; init; }

    /// <summary>b_enc, [1, d_sae].</summary>
    public Mat EncoderBias { get; init; }

    /// <summary>θ, [1, d_sae]; zeros make it a ReLU SAE.</summary>
    public Mat Threshold { get; init; }

    /// <summary>W_dec as a weight [d_out, d_sae] (the file has it transposed, [d_sae, d_out]: a feature's row is contiguous).</summary>
    public Weight Decoder { get; init; }

    /// <summary>b_dec, [1, d_out].</summary>
    public Mat DecoderBias { get; init; }

    /// <summary>k of a TopK SAE: only the k largest pre-activations of a row stay active, the lower index first among equals. 0: all that are above their thresholds.</summary>
    public int TopK { get; init; }

    /// <summary>d_in: width of what it reads.</summary>
    public int InputDim => Encoder.Columns;

    /// <summary>d_out; d_in unless it is a transcoder.</summary>
    public int OutputDim => Decoder.Rows;

    /// <summary>d_sae: number of features.</summary>
    public int FeatureCount => Encoder.Rows;
}

/// <summary>How an edit changes a feature.</summary>
public enum FeatureEditKind
{
    /// <summary>Steer: y += value · W_dec[f].</summary>
    Add,

    /// <summary>Clamp: y += (value − f(x)) · W_dec[f]; the SAE's error is kept. Value 0 is an ablation.</summary>
    Clamp,
}

/// <summary>A change of one feature, as data, so that a device applies it without the host.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public readonly record struct FeatureEdit
{
    /// <summary>An edit; <see cref="Steer"/>, <see cref="Clamp"/> and <see cref="Ablate"/> read better.</summary>
    /// <param name="feature">The feature's index.</param>
    /// <param name="kind">What is done.</param>
    /// <param name="value">The strength of a steer, or the target of a clamp.</param>
    public FeatureEdit(int feature, FeatureEditKind kind, float value)
    {
        Feature = feature;
        Kind = kind;
        Value = value;
    }

    /// <summary>Index of the feature.</summary>
    public int Feature { get; init; }

    /// <summary>Whether the feature is steered or clamped.</summary>
    public FeatureEditKind Kind { get; init; }

    /// <summary>Strength of a steer, target of a clamp.</summary>
    public float Value { get; init; }

    /// <summary>y += strength · W_dec[feature].</summary>
    public static FeatureEdit Steer(int feature, float strength) => new(feature, FeatureEditKind.Add, strength);

    /// <summary>y += (value − f(x)) · W_dec[feature]: the feature's activation becomes <paramref name="value"/>; the SAE's error is kept.</summary>
    public static FeatureEdit Clamp(int feature, float value) => new(feature, FeatureEditKind.Clamp, value);

    /// <summary>A clamp to 0: the feature is switched off.</summary>
    public static FeatureEdit Ablate(int feature) => Clamp(feature, 0);
}
