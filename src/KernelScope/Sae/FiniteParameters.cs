using System.Numerics;
using KernelScope.Files;

namespace KernelScope.Sae;

/// <summary>Refuses an SAE whose parameters are not finite numbers: a NaN in one feature's encoder makes it never fire, which no metric would show.</summary>
/// <remarks>Any number of threads may call it.</remarks>
internal static class FiniteParameters
{
    /// <summary>Looks at every parameter once, which reads the whole file.</summary>
    /// <exception cref="InvalidDataException">One is NaN or infinite; the message says which. An infinite threshold is allowed: that feature never fires.</exception>
    public static void Require(SaeCheckpoint sae)
    {
        ArgumentNullException.ThrowIfNull(sae);
        using IDisposable hold = sae.Hold();
        Require(sae.Encoder, infinite: false);
        Require(sae.EncoderBias, infinite: false);
        Require(sae.Decoder, infinite: false);
        Require(sae.DecoderBias, infinite: false);
        if (sae.Threshold is { } threshold)
            Require(threshold, infinite: true);
        if (sae.Skip is { } skip)
            Require(skip, infinite: false);
    }

    /// <summary>Looks at the biases and the thresholds alone, which takes no time.</summary>
    /// <exception cref="InvalidDataException">One is NaN, or infinite where it is not a threshold; the message says which.</exception>
    public static void RequireVectors(SaeCheckpoint sae)
    {
        ArgumentNullException.ThrowIfNull(sae);
        Require(sae.EncoderBias, infinite: false);
        Require(sae.DecoderBias, infinite: false);
        if (sae.Threshold is { } threshold)
            Require(threshold, infinite: true);
    }

    private static void Require(in TensorView tensor, bool infinite)
    {
        float[] piece = new float[1 << 16];
        for (long at = 0; at < tensor.ElementCount; at += piece.Length)
        {
            Span<float> values = piece.AsSpan(0, (int)Math.Min(piece.Length, tensor.ElementCount - at));
            tensor.CopyTo(at, values);
            if (AllFinite(values))
                continue;
            for (int i = 0; i < values.Length; i++)
            {
                if (float.IsNaN(values[i]) || (!infinite && float.IsInfinity(values[i])))
                    throw BadFile.At(tensor.File, $"{tensor.Name} holds {(float.IsNaN(values[i]) ? "NaN" : "an infinite number")} " +
                        $"(element {at + i} of {tensor.ElementCount}).");
            }
        }
    }

    /// <summary>x − x is 0 for every finite x, and NaN for the others.</summary>
    private static bool AllFinite(ReadOnlySpan<float> values)
    {
        Vector<float> sum = Vector<float>.Zero;
        int i = 0;
        for (; i <= values.Length - Vector<float>.Count; i += Vector<float>.Count)
        {
            var v = new Vector<float>(values[i..]);
            sum += v - v;
        }

        bool finite = Vector.EqualsAll(sum, Vector<float>.Zero);
        for (; i < values.Length; i++)
            finite &= float.IsFinite(values[i]);
        return finite;
    }
}
