namespace KernelScope.Cli.Inspection;

/// <summary>What to do beyond checking.</summary>
public sealed record InspectOptions
{
    /// <summary>Whether to read all values and give their range, mean and NaN count.</summary>
    public bool Statistics { get; init; }
}

/// <summary>What inspection says of one path.</summary>
/// <param name="Path">The path as given.</param>
/// <param name="Ok">Whether loading it would work.</param>
/// <param name="Error">One sentence with file, tensor and place, printable as it is; null if <paramref name="Ok"/>.</param>
/// <param name="Format">safetensors, npz, npy, gemma_scope_sae, gemma_scope_2_sae, saelens_sae, sparsify_sae, circuit_tracer_transcoder, index, config, generation_config, tokenizer, panels, model, or unknown.</param>
/// <param name="Tensors">What it holds, in file order; empty if it is not ok.</param>
public sealed record InspectionResult(string Path, bool Ok, string? Error, string Format, IReadOnlyList<InspectedTensor> Tensors)
{
    /// <summary>What is unusual about a model's files and is dealt with, in sentences.</summary>
    public IReadOnlyList<string> Remarks { get; init; } = [];

    /// <summary>What is not as it should be and does not keep it from loading: packed weights that are not used.</summary>
    public IReadOnlyList<string> Notes { get; init; } = [];
}

/// <summary>A tensor in an <see cref="InspectionResult"/>.</summary>
/// <param name="Name">The name, as stored: not made printable.</param>
/// <param name="DType">The element type, by its safetensors name.</param>
/// <param name="Shape">The dimensions.</param>
/// <param name="Range">Range and mean, if they were asked for and the values are real numbers.</param>
public sealed record InspectedTensor(string Name, string DType, long[] Shape, TensorRange? Range);

/// <summary>Range and mean of a tensor's values.</summary>
/// <param name="Minimum">The smallest value that is not NaN; NaN if there is none.</param>
/// <param name="Maximum">The largest value that is not NaN; NaN if there is none.</param>
/// <param name="Mean">The mean of the values that are not NaN, summed in double; NaN if there is none.</param>
/// <param name="NanCount">How many values are NaN.</param>
public sealed record TensorRange(double Minimum, double Maximum, double Mean, long NanCount);
