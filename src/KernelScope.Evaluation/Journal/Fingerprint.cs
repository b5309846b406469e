using System.Security.Cryptography;
using System.Text;
using KernelScope.Files;
using KernelScope.Model;
using KernelScope.Sae;

namespace KernelScope.Evaluation;

/// <summary>Tells models and SAEs apart by content, wherever they lie: SHA-256 over what they compute with.</summary>
/// <remarks>
/// Tensors count with name, type, shape and bytes: all bytes where the whole has at most <see cref="WholeLimit"/>, else <see cref="Blocks"/> blocks of <see cref="BlockLength"/> bytes at equal distances
/// of each larger tensor: hashing 50 GB to look for a resume file's owner would take longer than much of what is resumed. Two checkpoints of a training run differ in every block; a model of which a few
/// weights were patched by hand may pass for the same.
/// </remarks>
internal static unsafe class Fingerprint
{
    public const long WholeLimit = 256L << 20;
    public const int Blocks = 16;
    public const int BlockLength = 1 << 14;

    /// <summary>Of a model: its settings and weights.</summary>
    public static string Of(Gemma2Checkpoint model)
    {
        Gemma2Config config = model.Config;
        string settings =
            $"{config with { EosIds = [], TextEndIds = [], SlidingLayers = null }} {string.Join(',', config.TextEndIds)} "
                + $"{string.Join(',', config.SlidingLayers ?? [])}";
        List<TensorView> tensors = [model.Embedding, model.FinalNorm];
        if (!model.IsTied)
            tensors.Add(model.OutputHead);
        for (int l = 0; l < config.LayerCount; l++)
        {
            LayerTensors t = model.Layer(l);
            tensors.AddRange(
                [t.InputNorm, t.PostAttentionNorm, t.PreFeedForwardNorm, t.PostFeedForwardNorm, t.Q, t.K, t.V, t.O, t.Gate, t.Up, t.Down]);
        }

        return Of(settings, tensors);
    }

    /// <summary>Of an SAE: how it is computed and its parameters, not where it belongs.</summary>
    public static string Of(SaeCheckpoint sae)
    {
        List<TensorView> tensors = [sae.Encoder, sae.EncoderBias, sae.Decoder, sae.DecoderBias];
        if (sae.Threshold is { } threshold)
            tensors.Add(threshold);
        if (sae.Skip is { } skip)
            tensors.Add(skip);
        return Of($"{sae.Config.Architecture} {sae.Config.Normalization} "
            + $"{sae.Config.ApplyDecoderBiasToInput}{(sae.Config.K > 0 ? $" {sae.Config.K}" : "")}", tensors);
    }

    internal static string Of(string settings, IReadOnlyList<TensorView> tensors, long wholeLimit = WholeLimit)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        hash.AppendData(Encoding.UTF8.GetBytes(settings));
        bool whole = tensors.Sum(t => t.ByteLength) <= wholeLimit;
        foreach (TensorView tensor in tensors)
        {
            hash.AppendData(Encoding.UTF8.GetBytes($"{tensor.Info} {tensor.ColumnMajor}\n"));
            if (whole || tensor.ByteLength <= Blocks * BlockLength)
            {
                Append(hash, tensor, 0, tensor.ByteLength);
                continue;
            }

            for (int i = 0; i < Blocks; i++)
                Append(hash, tensor, (long)((Int128)(tensor.ByteLength - BlockLength) * i / (Blocks - 1)), BlockLength);
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    private static void Append(IncrementalHash hash, TensorView tensor, long offset, long length)
    {
        const int Piece = 1 << 24;
        using TensorView.Reading reading = tensor.Read();
        for (long at = 0; at < length; at += Piece)
            hash.AppendData(new ReadOnlySpan<byte>(tensor.Pointer + offset + at, (int)Math.Min(Piece, length - at)));
    }
}
