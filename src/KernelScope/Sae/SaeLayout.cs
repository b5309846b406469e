namespace KernelScope.Sae;

/// <summary>What a kind of file calls an SAE's arrays, and how it stores the encoder.</summary>
/// <param name="Encoder">W_enc.</param>
/// <param name="Decoder">W_dec [d_sae, d_out].</param>
/// <param name="EncoderBias">b_enc.</param>
/// <param name="DecoderBias">b_dec.</param>
/// <param name="Threshold">The thresholds, where there are any.</param>
/// <param name="Skip">W_skip [d_out, d_in], where there is one.</param>
/// <param name="OutputMajor">Whether W_enc is stored [d_sae, d_in], as torch's linear layers are; else [d_in, d_sae].</param>
internal sealed record SaeLayout(string Encoder, string Decoder, string EncoderBias, string DecoderBias, string Threshold, string Skip,
    bool OutputMajor)
{
    /// <summary>SAELens, and Gemma Scope's params.npz.</summary>
    public static SaeLayout SaeLens { get; } = new("W_enc", "W_dec", "b_enc", "b_dec", "threshold", "W_skip", OutputMajor: false);

    /// <summary>Gemma Scope 2's params.safetensors.</summary>
    public static SaeLayout GemmaScope2 { get; } = SaeLens with { Encoder = "w_enc", Decoder = "w_dec" };

    /// <summary>circuit-tracer's layer_N.safetensors.</summary>
    public static SaeLayout CircuitTracer { get; } = SaeLens with { Threshold = "activation_function.threshold", OutputMajor = true };

    /// <summary>sparsify's sae.safetensors.</summary>
    public static SaeLayout Sparsify { get; } = SaeLens with
    {
        Encoder = "encoder.weight",
        EncoderBias = "encoder.bias",
        OutputMajor = true
    };
}
