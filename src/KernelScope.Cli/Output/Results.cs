using System.Text.Json.Serialization;

namespace KernelScope.Cli;

// What the verbs print as JSON. Names and shapes are a contract.

/// <summary>One active feature.</summary>
internal readonly record struct FeatureActivation(int Index, float Activation)
{
    /// <summary>What is known of the feature.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public string? Meaning { get; init; }
}

/// <summary>Result for many texts (<c>--jsonl</c>): the usual document for each, in their order.</summary>
/// <param name="Model">The model.</param>
/// <param name="Sae">The SAE; null if there is none, or more than one.</param>
/// <param name="Texts">The documents.</param>
internal sealed record TextsResult<T>(string Model, string? Sae, IReadOnlyList<T> Texts);

/// <summary>A token and its strongest features, strongest first.</summary>
internal sealed record TokenFeatures(int Id, string? Text, IReadOnlyList<FeatureActivation> Features);

/// <summary>Result of <c>features</c>.</summary>
internal sealed record FeaturesResult(string Model, string Sae, string Site, IReadOnlyList<TokenFeatures> Tokens);

/// <summary>Result of <c>features</c> with several SAEs.</summary>
internal sealed record SeveralFeaturesResult(string Model, IReadOnlyList<SaeFeatures> Saes);

/// <summary>The features of one SAE of several.</summary>
internal sealed record SaeFeatures(string Sae, string Site, IReadOnlyList<TokenFeatures> Tokens);

/// <summary>Result of <c>generate</c>; <paramref name="Tokens"/> are the new ones.</summary>
internal sealed record GenerateResult(IReadOnlyList<int> PromptTokens, IReadOnlyList<int> Tokens, string? Text, string Stop)
{
    /// <summary>The seed, where chance had a part.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public ulong? Seed { get; init; }

    /// <summary>With <c>--logprobs</c>: one entry for each new token.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public IReadOnlyList<TokenLogProbs>? Logprobs { get; init; }

    /// <summary>With <c>--baseline</c>: the text without edits.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public GeneratedText? Baseline { get; init; }

    /// <summary>With <c>--features</c>: which SAE.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public string? Sae { get; init; }

    /// <summary>With <c>--features</c>: where it reads.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public string? Site { get; init; }

    /// <summary>With <c>--features</c>: one entry for each new token.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public IReadOnlyList<TokenFeatures>? Features { get; init; }

    /// <summary>With <c>--features</c> and several SAEs: each one's, in place of the three above.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public IReadOnlyList<NewTokenFeatures>? Saes { get; init; }
}

/// <summary>A text that was generated beside another.</summary>
internal sealed record GeneratedText(IReadOnlyList<int> Tokens, string? Text, string Stop);

/// <summary>Result of <c>generate --strengths</c>.</summary>
internal sealed record SweepResult(IReadOnlyList<int> PromptTokens, IReadOnlyList<SweepRun> Runs)
{
    /// <summary>The seed, where chance had a part.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public ulong? Seed { get; init; }

    /// <summary>With <c>--baseline</c>: the text without edits.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public GeneratedText? Baseline { get; init; }
}

/// <summary>The text of one strength.</summary>
internal sealed record SweepRun(float Strength, IReadOnlyList<int> Tokens, string? Text, string Stop);

/// <summary>A token's log-probability, and those of the likeliest tokens at its place.</summary>
internal sealed record TokenLogProbs(int Token, double? Logprob, IReadOnlyList<TopLogProb> Top);

/// <summary>A token and its log-probability.</summary>
internal sealed record TopLogProb(int Id, string? Text, double Logprob);

/// <summary>The features of one SAE of several on each new token.</summary>
internal sealed record NewTokenFeatures(string Sae, string Site, IReadOnlyList<TokenFeatures> Features);

/// <summary>A token, its logit and the probability that follows from all of them.</summary>
internal sealed record TokenLogit(int Id, string? Text, float Logit, double Probability);

/// <summary>Result of <c>run</c>.</summary>
internal sealed record RunResult(IReadOnlyList<int> Tokens, IReadOnlyList<double> NextTokenLoss, IReadOnlyList<TokenLogit> Top)
{
    /// <summary>With <c>--against</c>: where this run parts from the stored one.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public DiffResult? Against { get; init; }
}

/// <summary>Result of <c>tokenize</c>.</summary>
internal sealed record TokenizeResult(IReadOnlyList<int> Ids, IReadOnlyList<string> Pieces);

/// <summary>Result of <c>tokenize --decode</c>.</summary>
internal sealed record TextResult(string Text);

/// <summary>Result of <c>encode</c>: mean number of active features, and the fraction of variance unexplained; null where it is not defined.</summary>
internal sealed record EncodeResult(long Rows, double? L0, double? Fvu)
{
    /// <summary>How many of the rows count in the two.</summary>
    public long RowsCounted { get; init; }
}

/// <summary>What <c>inspect</c> says of one path.</summary>
internal sealed record InspectedPath(string Path, bool Ok, string? Error, string Format, IReadOnlyList<TensorRow> Tensors)
{
    /// <summary>Of a model: a few lines for people.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public IReadOnlyList<string>? Summary { get; init; }

    /// <summary>Of a model: what is unusual about its files.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public IReadOnlyList<string>? Remarks { get; init; }

    /// <summary>Packed weights that a run would not use, and why; null where all is well.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public IReadOnlyList<string>? Notes { get; init; }
}

/// <summary>A tensor; min, max, mean and the number of NaNs with <c>--ranges</c>.</summary>
internal sealed record TensorRow(string Name, string Dtype, IReadOnlyList<long> Shape)
{
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public RangeRow? Range { get; init; }
}

/// <summary>Range of a tensor's values.</summary>
internal sealed record RangeRow(double Min, double Max, double Mean, long NanCount);

/// <summary>Result of <c>doctor</c>.</summary>
internal sealed record DoctorResult(
    string Version,
    string Runtime,
    string Os,
    string Architecture,
    int Cores,
    IReadOnlyList<string> Simd,
    MemoryRow Memory,
    IReadOnlyList<DeviceRow> Devices,
    NeedRow Model,
    NeedRow? Sae)
{
    /// <summary>With an SAE: how it does where it is used, and elsewhere.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public FitResult? Fit { get; init; }

    /// <summary>Which kernels multiply on the cpu, by how matrices are stored and by the number of rows.</summary>
    public required IReadOnlyList<ProductKernelRow> Kernels { get; init; }

    /// <summary>What the model and the SAE need together on each device.</summary>
    public required IReadOnlyList<DeviceFitRow> Needs { get; init; }

    /// <summary>The same of a published model that is not downloaded yet.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public IReadOnlyList<FitBeforeRow>? BeforeDownload { get; init; }

    /// <summary>Whether the model and the SAE run on the device asked for, or would once they are downloaded.</summary>
    public bool WouldRun { get; init; }
}

/// <summary>What a model that is not downloaded yet would need, with its weights in a type.</summary>
/// <param name="Dtype">float32 or bfloat16.</param>
/// <param name="IsPublished">Whether that is the type in which it is published.</param>
/// <param name="WeightBytes">The weights.</param>
/// <param name="Needs">On each device that there is.</param>
internal sealed record FitBeforeRow(string Dtype, bool IsPublished, long WeightBytes, IReadOnlyList<DeviceFitRow> Needs);

/// <summary>What is needed on a device, by what, and why it would not run there.</summary>
internal sealed record DeviceFitRow(
    string Device, bool Ok, long NeededBytes, long FreeBytes, long TotalBytes, IReadOnlyList<NeedItemRow> Items, string? Error);

/// <summary>One thing that needs memory.</summary>
internal sealed record NeedItemRow(string What, long Bytes);

/// <summary>How an SAE does on a sample text.</summary>
/// <param name="ReleasedL0">The L0 that its path names; null if it names none.</param>
/// <param name="Used">At its own site.</param>
/// <param name="Doubt">What is off and what usually causes it; null if nothing is.</param>
/// <param name="Tried">At the sites that are taken for it, with and without BOS.</param>
internal sealed record FitResult(double? ReleasedL0, FitRow Used, string? Doubt, IReadOnlyList<FitRow> Tried);

/// <summary>Mean number of active features, and the median of |y - y'|^2 / |y - mean y|^2, at a site.</summary>
internal sealed record FitRow(string Site, bool BeginsWithBos, double L0, double ErrorRatio);

/// <summary>Memory of the machine, and how much of it this process may take now.</summary>
internal sealed record MemoryRow(long TotalBytes, long AvailableBytes);

/// <summary>A device and why it would not run.</summary>
internal sealed record DeviceRow(string Name, bool Ok, string Detail);

/// <summary>The kernels that multiply with matrices that are stored in a certain way, in either precision.</summary>
internal sealed record ProductKernelRow(string Stored, string Exact, string Fast);

/// <summary>What a model or an SAE needs, or why it would not run.</summary>
internal sealed record NeedRow(string Name, bool Ok, string? Error, long WeightBytes, long ContextTokens, long ContextBytes)
{
    /// <summary>Of a model: the file of packed weights that the cpu device reads.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public string? Packed { get; init; }

    /// <summary>Of a model: bytes of the weights that the cpu device reads, with the packed ones.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public long? PackedWeightBytes { get; init; }

    /// <summary>Of a model: bytes of the context on a CUDA device, whose sessions take more tokens a call.</summary>
    [JsonIgnore]
    public long CudaContextBytes { get; init; }

    /// <summary>Of a model: what is unusual about its files.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public IReadOnlyList<string>? Remarks { get; init; }

    /// <summary>Why the packed weights that were found are not used.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public string? PackedProblem { get; init; }
}
