using System.Text.Json.Serialization;

namespace KernelScope.Web.Endpoints;

// Answers of /api. Names and shapes are those that Neuronpedia's Python client reads.

internal sealed record ApiError(string Error, string Message);

internal sealed record PublicSteerAnswer(
    [property: JsonPropertyName("STEERED")] string Steered,
    [property: JsonPropertyName("DEFAULT")] string Default)
{
    public IReadOnlyList<Logprob>? SteeredLogProbs { get; init; }

    public IReadOnlyList<Logprob>? DefaultLogProbs { get; init; }

    public string? Id { get; init; }

    public string? ShareUrl { get; init; }

    public string? Limit { get; init; }
}

internal sealed record SteerSettings(
    double Temperature,
    [property: JsonPropertyName("n_tokens")] int Tokens,
    [property: JsonPropertyName("freq_penalty")] double FreqPenalty,
    double Seed,
    [property: JsonPropertyName("strength_multiplier")] double StrengthMultiplier,
    [property: JsonPropertyName("steer_special_tokens")] bool SteerSpecialTokens,
    [property: JsonPropertyName("steer_method")] string SteerMethod);

internal sealed record PublicSteerChatAnswer(
    [property: JsonPropertyName("STEERED")] SteerChatOutput Steered,
    [property: JsonPropertyName("DEFAULT")] SteerChatOutput Default,
    string InputText,
    SteerSettings Settings)
{
    public string? Id { get; init; }

    public string? ShareUrl { get; init; }

    public string? Limit { get; init; }
}

internal sealed record Explanation(string Id, string ModelId, string Layer, string Source, string Index, string Description)
{
    public string? TypeName { get; init; }

    public string? ExplanationModelName { get; init; }

    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public double? Score { get; init; }

    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public FeatureRow? Neuron { get; init; }
}

internal sealed record ActivationRow(
    string Id, string ModelId, string Layer, string Source, string Index, IReadOnlyList<string> Tokens, IReadOnlyList<double> Values,
    double MaxValue, int MaxValueTokenIndex, double MinValue, double? BinMin, double? BinMax, double? BinContains, int QualifyingTokenIndex)
{
    public IReadOnlyList<double> DfaValues { get; init; } = [];

    public int DfaTargetIndex { get; init; } = -1;

    public double DfaMaxValue { get; init; }
}

/// <summary>A feature as its page shows it. Without statistics the fields that come from a corpus are empty.</summary>
internal sealed record FeatureRow(string ModelId, string Layer, string Source, string Index)
{
    public string SourceSetName { get; init; } = "";

    public string HookName { get; init; } = "";

    public string CreatorId { get; init; } = "";

    public string? CreatedAt { get; init; }

    [JsonPropertyName("pos_str")]
    public IReadOnlyList<string> PosStr { get; init; } = [];

    [JsonPropertyName("pos_values")]
    public IReadOnlyList<double> PosValues { get; init; } = [];

    [JsonPropertyName("neg_str")]
    public IReadOnlyList<string> NegStr { get; init; } = [];

    [JsonPropertyName("neg_values")]
    public IReadOnlyList<double> NegValues { get; init; } = [];

    [JsonPropertyName("frac_nonzero")]
    public double? FracNonzero { get; init; }

    [JsonPropertyName("freq_hist_data_bar_values")]
    public IReadOnlyList<double> FreqHistValues { get; init; } = [];

    [JsonPropertyName("freq_hist_data_bar_heights")]
    public IReadOnlyList<long> FreqHistHeights { get; init; } = [];

    [JsonPropertyName("logits_hist_data_bar_values")]
    public IReadOnlyList<double> LogitsHistValues { get; init; } = [];

    [JsonPropertyName("logits_hist_data_bar_heights")]
    public IReadOnlyList<long> LogitsHistHeights { get; init; } = [];

    public double? MaxActApprox { get; init; }

    [JsonPropertyName("neuron_alignment_indices")]
    public IReadOnlyList<int> AlignmentIndices { get; init; } = [];

    [JsonPropertyName("neuron_alignment_values")]
    public IReadOnlyList<double> AlignmentValues { get; init; } = [];

    [JsonPropertyName("neuron_alignment_l1")]
    public IReadOnlyList<double> AlignmentL1 { get; init; } = [];

    [JsonPropertyName("correlated_neurons_indices")]
    public IReadOnlyList<int> CorrelatedNeurons { get; init; } = [];

    [JsonPropertyName("correlated_neurons_pearson")]
    public IReadOnlyList<double> CorrelatedNeuronsPearson { get; init; } = [];

    [JsonPropertyName("correlated_neurons_l1")]
    public IReadOnlyList<double> CorrelatedNeuronsL1 { get; init; } = [];

    [JsonPropertyName("correlated_features_indices")]
    public IReadOnlyList<int> CorrelatedFeatures { get; init; } = [];

    [JsonPropertyName("correlated_features_pearson")]
    public IReadOnlyList<double> CorrelatedFeaturesPearson { get; init; } = [];

    [JsonPropertyName("correlated_features_l1")]
    public IReadOnlyList<double> CorrelatedFeaturesL1 { get; init; } = [];

    /// <summary>At <c>z</c>: the share of each head.</summary>
    [JsonPropertyName("decoder_weights_dist")]
    public IReadOnlyList<double> DecoderWeightsDist { get; init; } = [];

    public IReadOnlyList<int> TopkCosSimIndices { get; init; } = [];

    public IReadOnlyList<double> TopkCosSimValues { get; init; } = [];

    public bool HasVector { get; init; }

    public IReadOnlyList<float> Vector { get; init; } = [];

    public string? VectorLabel { get; init; }

    public double VectorDefaultSteerStrength { get; init; } = 10;

    public IReadOnlyList<ActivationRow> Activations { get; init; } = [];

    public IReadOnlyList<Explanation> Explanations { get; init; } = [];

    /// <summary>What the fields above cannot say.</summary>
    public FeatureFacts? Kernelscope { get; init; }
}

/// <summary>Another feature: the rows on which both fire, over those on which one of them does.</summary>
internal sealed record CoFiringFeature(int Index, double Value, long Count);

internal sealed record TokenShare(string Piece, long Count, double Mean);

/// <summary>How much of a feature one document makes up.</summary>
internal sealed record DocumentShare([property: JsonPropertyName("share_of_largest_document")] double ShareOfLargest);

internal sealed record FeatureFacts
{
    [JsonPropertyName("firing_positions")]
    public long FiringPositions { get; init; }

    [JsonPropertyName("counted_positions")]
    public long CountedPositions { get; init; }

    [JsonPropertyName("masked_ids")]
    public IReadOnlyList<int> MaskedIds { get; init; } = [];

    /// <summary>The features of its source, where a server says it: pages lead from one to the next.</summary>
    [JsonPropertyName("feature_count")]
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public int? FeatureCount { get; init; }

    public string Dataset { get; init; } = "";

    public string Site { get; init; } = "";

    [JsonPropertyName("site_out")]
    public string? SiteOut { get; init; }

    public string Binning { get; init; } = "quantile";

    /// <summary>The run whose codes were read.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public string? Run { get; init; }

    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public ulong? Seed { get; init; }

    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public string? Precision { get; init; }

    [JsonPropertyName("bos_policy")]
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public string? BosPolicy { get; init; }

    /// <summary>Features of the SAE that are active at a counted position, on average.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public double? L0 { get; init; }

    public double? Mean { get; init; }

    public IReadOnlyDictionary<string, double> Quantiles { get; init; } = new Dictionary<string, double>();

    [JsonPropertyName("distinct_tokens")]
    public int DistinctTokens { get; init; }

    [JsonPropertyName("top_tokens")]
    public IReadOnlyList<TokenShare> TopTokens { get; init; } = [];

    /// <summary>The features that fire most alike, most alike first.</summary>
    [JsonPropertyName("co_firing")]
    public IReadOnlyList<CoFiringFeature> CoFiring { get; init; } = [];

    /// <summary>In how many windows the peak lies in each eighth of them.</summary>
    [JsonPropertyName("peak_position_histogram")]
    public IReadOnlyList<long> PeakPositions { get; init; } = [];

    [JsonPropertyName("by_document")]
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public DocumentShare? ByDocument { get; init; }

    [JsonPropertyName("nearest_encoder")]
    public IReadOnlyList<int> NearestEncoder { get; init; } = [];

    [JsonPropertyName("logit_lens")]
    public string LogitLens { get; init; } = "no_norm";

    public bool Dead { get; init; }

    public bool Dense { get; init; }
}

internal sealed record ActivationNewAnswer(
    IReadOnlyList<string> Tokens, IReadOnlyList<float> Values, float MaxValue, float MinValue, int MaxValueTokenIndex, string ModelId,
    string Layer, string Source, string Index, string CreatedAt)
{
    public string CreatorId { get; init; } = "";

    public int? DataIndex { get; init; }

    public string DataSource { get; init; } = "Neuronpedia";

    public IReadOnlyList<float>? DfaValues { get; init; }

    public int? DfaTargetIndex { get; init; }

    public float? DfaMaxValue { get; init; }
}

internal sealed record PublicSourceAnswer(IReadOnlyList<SourceResult> Results, SourceAnswer Data);

internal sealed record SearchAllRow(
    string ModelId, string Layer, string Source, string Index, IReadOnlyList<float> Values, float MaxValue, int MaxValueIndex)
{
    public FeatureRow? Neuron { get; init; }

    public IReadOnlyList<float>? DfaValues { get; init; }

    public int? DfaTargetIndex { get; init; }

    public float? DfaMaxValue { get; init; }
}

internal sealed record SearchAllAnswer(IReadOnlyList<string> Tokens, IReadOnlyList<SearchAllRow> Result, IReadOnlyList<int> SortIndexes);

internal sealed record SearchAllListAnswer(IReadOnlyList<SearchAllAnswer> Results);

internal sealed record SearchTopFeature(int FeatureIndex, float ActivationValue)
{
    public FeatureRow? Feature { get; init; }
}

internal sealed record SearchToken(int Position, string Token, bool IsSpecial, IReadOnlyList<SearchTopFeature> TopFeatures);

internal sealed record SearchTopkAnswer(string Source, IReadOnlyList<SearchToken> Results);

internal sealed record SearchTopkListAnswer(IReadOnlyList<SearchTopkAnswer> Results);

internal sealed record SourceRow(string Id, string ModelId, string SetName, string HookName, int Features)
{
    public bool HasDashboards { get; init; }

    public bool InferenceEnabled { get; init; } = true;
}

internal sealed record SourceSetAnswer(
    string Name, string ModelId, string Description, IReadOnlyList<string> Urls, IReadOnlyList<SourceRow> Sources)
{
    public string? Releases { get; init; }

    public ModelRow? Model { get; init; }
}

internal sealed record ModelRow(string Id, string DisplayName, int Layers)
{
    public bool InferenceEnabled { get; init; } = true;

    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public IReadOnlyList<SourceSetAnswer>? SourceSets { get; init; }
}

internal sealed record VectorRow(
    string ModelId, string Layer, string Source, string Index, string? VectorLabel, string HookName, IReadOnlyList<float> Vector,
    double VectorDefaultSteerStrength);

internal sealed record PublicVectorAnswer(VectorRow Vector);

internal sealed record PublicTokenizeAnswer(
    IReadOnlyList<int> Tokens, IReadOnlyList<string> TokenStrings, bool PrependBos, TokenizeAnswer Data);

internal sealed record SearchQuery(string ModelId, IReadOnlyList<string> Layers, string Query, int Offset);

internal sealed record ExplanationSearchAnswer(
    SearchQuery Request, IReadOnlyList<Explanation> Results, int ResultsCount, bool HasMore, int NextOffset);

internal sealed record SteerPreset(string Name, string Prompt, IReadOnlyList<PresetFeature> Features);

internal sealed record PresetFeature(string ModelId, string Layer, int Index, double Strength);
