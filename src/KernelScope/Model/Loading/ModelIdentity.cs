using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using KernelScope.Files;

namespace KernelScope.Model;

/// <summary>What tells one model from another, for files that are of use with one only.</summary>
/// <remarks>
/// SHA-256 over the config's numbers on which activations depend, the embedding scale, and of every tensor that a forward pass reads, in its order, type, shape and content: all of it up to 256 KiB, else 64 pieces of 4 KiB, evenly spread, the first and the last among them.
/// Reading all of 5 GB would take longer than computing a prompt anew. Training, merging, rounding and rank-one edits change values in every piece, so they are seen; a few values changed by hand between the pieces are not.
/// </remarks>
internal static class ModelIdentity
{
    private const int WholeBytes = 1 << 18;
    private const int PieceBytes = 1 << 12;
    private const int Pieces = WholeBytes / PieceBytes;

    /// <summary>The hash, in hexadecimal.</summary>
    public static string Of(Gemma2Checkpoint checkpoint, float embeddingScale)
    {
        using IDisposable hold = checkpoint.Hold();
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        Gemma2Config c = checkpoint.Config;
        string sliding = string.Concat(Enumerable.Range(0, c.LayerCount).Select(l => c.IsSliding(l) ? '1' : '0'));
        Append(hash, string.Create(
            CultureInfo.InvariantCulture,
            $"{c.ModelDim} {c.MlpDim} {c.LayerCount} {c.HeadCount} {c.KvHeadCount} {c.HeadDim} {c.QueryPreAttnScalar:R} " +
                $"{c.AttentionSoftcap:R} {c.SlidingWindow} {sliding} {c.RopeTheta:R} {c.NormEpsilon:R} {c.VocabSize} " +
                $"{embeddingScale:R}\n"));
        Append(hash, checkpoint.Embedding);
        Append(hash, checkpoint.FinalNorm);
        for (int l = 0; l < c.LayerCount; l++)
        {
            LayerTensors t = checkpoint.Layer(l);
            foreach (TensorView tensor in (TensorView[])[t.InputNorm, t.PostAttentionNorm, t.PreFeedForwardNorm, t.PostFeedForwardNorm,
                t.Q, t.K, t.V, t.O, t.Gate, t.Up, t.Down])
                Append(hash, tensor);
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    private static void Append(IncrementalHash hash, string text) => hash.AppendData(Encoding.UTF8.GetBytes(text));

    private static unsafe void Append(IncrementalHash hash, TensorView tensor)
    {
        Append(hash, $"{tensor.DType.SafetensorsName()} {BadFile.Shape(tensor.Shape)}\n");
        long length = tensor.ByteLength;
        if (length <= WholeBytes)
        {
            hash.AppendData(new ReadOnlySpan<byte>(tensor.Pointer, (int)length));
        }
        else
        {
            for (int i = 0; i < Pieces; i++)
                hash.AppendData(new ReadOnlySpan<byte>(tensor.Pointer + ((length - PieceBytes) * i / (Pieces - 1)), PieceBytes));
        }

        GC.KeepAlive(tensor.Owner);
    }
}
