namespace KernelScope.Devices;

/// <summary>The parameters of a JumpReLU, ReLU or TopK SAE or transcoder on a device.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
/// <param name="Encoder">W_enc as a weight [d_sae, d_in] (the file has it transposed, [d_in, d_sae]).</param>
/// <param name="EncoderBias">b_enc, [1, d_sae].</param>
/// <param name="Threshold">θ, [1, d_sae]; zeros make it a ReLU SAE.</param>
/// <param name="Decoder">W_dec as a weight [d_out, d_sae] (the file has it transposed, [d_sae, d_out]: a feature's row is contiguous).</param>
/// <param name="DecoderBias">b_dec, [1, d_out].</param>
public sealed record SaeParameters(Weight Encoder, Mat EncoderBias, Mat Threshold, Weight Decoder, Mat DecoderBias)
{
    /// <summary>k of a TopK SAE: only the k largest pre-activations of a row stay active, the lower index first among equals. 0: all that are above their thresholds.</summary>
    public int TopK { get; init; }

    /// <summary>d_in.</summary>
    public int InputDim => Encoder.Columns;

    /// <summary>d_out; d_in unless it is a transcoder.</summary>
    public int OutputDim => Decoder.Rows;

    /// <summary>d_sae.</summary>
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
/// <param name="Feature">Index of the feature.</param>
/// <param name="Kind">What is done.</param>
/// <param name="Value">Strength of a steer, target of a clamp.</param>
public readonly record struct FeatureEdit(int Feature, FeatureEditKind Kind, float Value)
{
    /// <summary>y += strength · W_dec[feature].</summary>
    public static FeatureEdit Steer(int feature, float strength) => new(feature, FeatureEditKind.Add, strength);

    /// <summary>y += (value − f(x)) · W_dec[feature]: the feature's activation becomes <paramref name="value"/>; the SAE's error is kept.</summary>
    public static FeatureEdit Clamp(int feature, float value) => new(feature, FeatureEditKind.Clamp, value);

    /// <summary>A clamp to 0.</summary>
    public static FeatureEdit Ablate(int feature) => Clamp(feature, 0);
}
