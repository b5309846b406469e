using KernelScope.Devices;

namespace KernelScope.Conformance;

/// <summary>A device of a trial, and what the trial's things are called on it: <c>side[x]</c>.</summary>
internal sealed record Side(Device Device, bool IsReference)
{
    public Mat this[TrialMatrix x] => IsReference ? x.Reference : x.Tested;

    public Weight this[TrialWeight weight] => IsReference ? weight.Reference : weight.Tested;

    public SparseCodes this[TrialCodes codes] => IsReference ? codes.Reference : codes.Tested;

    public KvLayer this[TrialCache cache] => new(this[cache.Keys], this[cache.Values], cache.KvHeadCount, cache.Capacity);

    public SaeParameters this[TrialSae sae] =>
        new(this[sae.Encoder], this[sae.EncoderBias], this[sae.Threshold], this[sae.Decoder], this[sae.DecoderBias]) { TopK = sae.TopK };
}

/// <summary>A layer's cache on both devices. Position p of head h is row h·Capacity + p mod Capacity.</summary>
internal sealed record TrialCache(TrialMatrix Keys, TrialMatrix Values, int KvHeadCount, int Capacity)
{
    public int HeadDim => Keys.Columns;

    public int RowOf(int kvHead, int position) => (kvHead * Capacity) + (position % Capacity);
}

/// <summary>An SAE on both devices.</summary>
internal sealed record TrialSae(TrialWeight Encoder, TrialMatrix EncoderBias, TrialMatrix Threshold, TrialWeight Decoder,
    TrialMatrix DecoderBias)
{
    /// <summary>k of a TopK SAE; 0: none.</summary>
    public int TopK { get; init; }

    public int InputDim => Encoder.Columns;

    public int OutputDim => Decoder.Rows;

    public int FeatureCount => Encoder.Rows;
}

/// <summary>Codes on both devices.</summary>
internal sealed class TrialCodes(int featureCount, CodeList? input, Device tested, Device reference) : IDisposable
{
    public SparseCodes Tested { get; } = tested.CreateCodes(featureCount, "codes");

    public SparseCodes Reference { get; } = reference.CreateCodes(featureCount, "codes");

    /// <summary>What the codes hold before a run; null: the op writes them.</summary>
    public CodeList? Input { get; } = input;

    public CodeList Actual { get; set; } = new();

    public CodeList Expected { get; } = new();

    public void Dispose()
    {
        Tested.Dispose();
        Reference.Dispose();
    }
}
