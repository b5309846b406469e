using System.Runtime.InteropServices;
using KernelScope.Devices;
using KernelScope.Files;
using KernelScope.Numerics;

namespace KernelScope.Conformance;

/// <summary>A device of a trial, and what the trial's things are called on it: <c>side[x]</c>.</summary>
internal sealed record Side(Device Device, bool IsReference)
{
    public Mat this[TrialMatrix x] => IsReference ? x.Reference : x.Tested;

    public Weight this[TrialWeight weight] => IsReference ? weight.Reference : weight.Tested;

    public SparseCodes this[TrialCodes codes] => IsReference ? codes.Reference : codes.Tested;

    public KvLayer this[TrialCache cache] => new(this[cache.Keys], this[cache.Values], cache.KvHeadCount, cache.Capacity, cache.Type);

    public SaeParameters this[TrialSae sae] =>
        new(this[sae.Encoder], this[sae.EncoderBias], this[sae.Threshold], this[sae.Decoder], this[sae.DecoderBias]) { TopK = sae.TopK };
}

/// <summary>A layer's cache on both devices. Position p of head h is row h·Capacity + p mod Capacity.</summary>
internal sealed record TrialCache(TrialMatrix Keys, TrialMatrix Values, int KvHeadCount, int Capacity, DType Type)
{
    public int HeadDim => Keys.Columns * (Type == DType.BF16 ? 2 : 1);

    /// <summary>Value <paramref name="i"/> of a row of <see cref="Keys"/> or <see cref="Values"/> as the case made it.</summary>
    public float At(TrialMatrix keysOrValues, int row, int i) =>
        Type == DType.F32 ? keysOrValues[row, i] : HalfOf(keysOrValues[row, i / 2], i);

    /// <summary>√Σx² of a key as the case made it.</summary>
    public double NormOfKey(int row) => Math.Sqrt(Enumerable.Range(0, HeadDim).Sum(i => Math.Pow(At(Keys, row, i), 2)));

    /// <summary>Values as the cache's matrices hold them.</summary>
    public static float[] Stored(ReadOnlySpan<float> values, DType type)
    {
        if (type == DType.F32)
            return values.ToArray();
        float[] words = new float[values.Length / 2];
        BFloat16.Narrow(values, MemoryMarshal.Cast<float, BFloat16>(words.AsSpan()));
        return words;
    }

    /// <summary>
    /// Compares stored keys with the reference's: float32 as a sum of two products of the given size, bfloat16 to one unit, since a sum near
    /// the middle of two of them may fall on either side.
    /// </summary>
    public void CompareKeys(Trial trial, Func<int, int, double> size)
    {
        if (Type == DType.F32)
        {
            trial.Compare(Keys, Limits.Elementwise, size);
            return;
        }

        for (int row = 0; row < Keys.Rows; row++)
        {
            for (int i = 0; i < HeadDim; i++)
            {
                int word = Keys.IndexOf(row, i / 2);
                float actual = HalfOf(Keys.Actual[word], i), expected = HalfOf(Keys.Expected[word], i);
                // Nothing was stored there: not a bit may differ. A key near 0 is the difference of two larger products.
                double limit = size(row, i) == 0 ? 0 : (Math.Abs((double)expected) / 128) + (1e-6 * size(row, i));
                if (!(Math.Abs((double)actual - expected) <= limit) && !(float.IsNaN(actual) && float.IsNaN(expected)))
                    throw new DisagreementException(FormattableString.Invariant(
                        $"key [{row}, {i}] is {actual:g9}; the reference stored {expected:g9}."));
            }
        }
    }

    private static float HalfOf(float word, int i)
    {
        uint bits = BitConverter.SingleToUInt32Bits(word);
        return BitConverter.UInt32BitsToSingle(i % 2 == 0 ? bits << 16 : bits & 0xFFFF_0000);
    }

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
