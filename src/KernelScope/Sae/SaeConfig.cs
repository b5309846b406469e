namespace KernelScope.Sae;

/// <summary>The activation function of an SAE's features.</summary>
public enum SaeArchitecture
{
    /// <summary>relu(pre) where pre &gt; threshold (strictly), else 0: Gemma Scope's.</summary>
    JumpRelu,
    /// <summary>relu(pre): SAELens' "standard" and its plain transcoders.</summary>
    Standard,
    /// <summary>relu(pre) of the k largest pre, else 0: SAELens' and sparsify's "topk".</summary>
    TopK,
}

/// <summary>What happens to an activation x before encoding, and is undone after decoding.</summary>
public enum SaeNormalization
{
    /// <summary>The input is taken as it is.</summary>
    None,
    /// <summary>(x − mean) / (s + 1e-5), s the unbiased standard deviation of the row; undone by · s + mean, without the 1e-5.</summary>
    LayerNorm,
    /// <summary>x · √d / ‖x‖; undone by the inverse factor.</summary>
    ConstantNorm,
}

/// <summary>How an SAE or transcoder is computed, and where in the model it belongs.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public sealed record SaeConfig
{
    /// <summary>The activation function.</summary>
    public required SaeArchitecture Architecture { get; init; }

    /// <summary>
    /// Whether it maps one site to another instead of reconstructing its input. SAELens files say so; a params.npz says so only by its widths or its path
    /// (nothing else in it differs), so a Gemma Scope transcoder that was moved out of its folder passes for an SAE.
    /// </summary>
    public required bool IsTranscoder { get; init; }

    /// <summary>d_in: width of the activations it reads.</summary>
    public required int InputDim { get; init; }

    /// <summary>d_out: width of what it writes; d_in for an SAE.</summary>
    public required int OutputDim { get; init; }

    /// <summary>d_sae: the number of features.</summary>
    public required int FeatureCount { get; init; }

    /// <summary>k of <see cref="SaeArchitecture.TopK"/>: the most features that are active in a row; 0 for the others.</summary>
    public int K { get; init; }

    /// <summary>Whether b_dec is subtracted from the (normalised) input before encoding; false for Gemma Scope, where it is folded into b_enc.</summary>
    public bool ApplyDecoderBiasToInput { get; init; }

    /// <summary>The normalisation around it.</summary>
    public SaeNormalization Normalization { get; init; }

    /// <summary>Whether SAELens gives it [heads, head_dim] activations to flatten (reshape_activations hook_z). Ours are flat already.</summary>
    public bool FlattensHeads { get; init; }

    /// <summary>The site it reads, as the file gives it (SAELens' hook_name) or in our notation from a Gemma Scope path (<c>resid_post.20</c>); null if unknown.</summary>
    public string? Site { get; init; }

    /// <summary>The site it writes; <see cref="Site"/> for an SAE.</summary>
    public string? SiteOut { get; init; }

    /// <summary>Why <see cref="Site"/> is null although the path says where the SAE belongs: it was trained on something that is not a hook point.</summary>
    public string? SiteNote { get; init; }

    /// <summary>The name of the site in the words of the files (SAELens' hook_name, Gemma Scope 2's hf_hook_point_in, sparsify's folder); null for a params.npz.</summary>
    public string? HookName { get; init; }

    /// <summary>The same of the site that it writes; null if the files name none.</summary>
    public string? HookNameOut { get; init; }

    /// <summary>The model it was trained on, as cfg.json or the name of a Gemma Scope repository in the path says; null if nothing does.</summary>
    public string? ModelName { get; init; }

    /// <summary>Whether it was trained on texts with BOS prepended.</summary>
    public bool PrependBos { get; init; } = true;
}
