using System.Buffers.Binary;
using System.Text;
using KernelScope.Files;
using KernelScope.Model;
using KernelScope.Numerics;

namespace KernelScope.Bench.Peers;

/// <summary>
/// Writes a checkpoint as llama.cpp reads it: GGUF 3 (ggml-org/ggml, docs/gguf.md), architecture gemma2 with the names of its converter, without a vocabulary, because only ids are fed.
/// Matrices stay bfloat16; gains are stored as float32 with the 1 added that Gemma's norms add.
/// </summary>
internal sealed class GgufWriter
{
    private const uint Magic = 0x46554747, Version = 3, TypeUInt32 = 4, TypeFloat32 = 6, TypeString = 8, Float32 = 0, BFloat16Type = 30;
    private const int Alignment = 32;
    private const int Piece = 64 << 20;

    private readonly Stream _stream;

    private GgufWriter(Stream stream) => _stream = stream;

    /// <summary>Writes the file, which appears when it is whole.</summary>
    public static void Write(string path, Gemma2Config shape, Gemma2Checkpoint checkpoint, CancellationToken cancellation)
    {
        using AtomicFile file = AtomicFile.Create(path);
        var writer = new GgufWriter(file.Stream);
        (string Name, TensorView Tensor)[] tensors = [.. Tensors(checkpoint)];
        writer.Header(shape, tensors);
        foreach ((_, TensorView tensor) in tensors)
        {
            cancellation.ThrowIfCancellationRequested();
            writer.Data(tensor);
        }

        file.Commit();
    }

    private static IEnumerable<(string Name, TensorView Tensor)> Tensors(Gemma2Checkpoint checkpoint)
    {
        yield return ("token_embd", checkpoint.Embedding);
        yield return ("output_norm", checkpoint.FinalNorm);
        for (int l = 0; l < checkpoint.Config.LayerCount; l++)
        {
            LayerTensors t = checkpoint.Layer(l);
            foreach ((string name, TensorView tensor) in ((string, TensorView)[])
            [
                ("attn_norm", t.InputNorm), ("post_attention_norm", t.PostAttentionNorm), ("ffn_norm", t.PreFeedForwardNorm),
                    ("post_ffw_norm", t.PostFeedForwardNorm),
                ("attn_q", t.Q), ("attn_k", t.K), ("attn_v", t.V), ("attn_output", t.O), ("ffn_gate", t.Gate), ("ffn_up", t.Up),
                    ("ffn_down", t.Down),
            ])
                yield return ($"blk.{l}.{name}", tensor);
        }
    }

    private static bool IsGain(TensorView tensor) => tensor.Shape.Length == 1;

    private static long Bytes(TensorView tensor) => tensor.ElementCount * (IsGain(tensor) ? sizeof(float) : sizeof(ushort));

    private static long Aligned(long bytes) => (bytes + Alignment - 1) / Alignment * Alignment;

    private void Header(Gemma2Config shape, (string Name, TensorView Tensor)[] tensors)
    {
        (string Name, object Value)[] settings =
        [
            ("general.architecture", "gemma2"), ("general.name", "random"),
            ("gemma2.context_length", shape.ContextLength), ("gemma2.embedding_length", shape.ModelDim),
                ("gemma2.block_count", shape.LayerCount),
                ("gemma2.feed_forward_length", shape.MlpDim),
            ("gemma2.attention.head_count", shape.HeadCount), ("gemma2.attention.head_count_kv", shape.KvHeadCount),
                ("gemma2.attention.key_length", shape.HeadDim), ("gemma2.attention.value_length", shape.HeadDim),
            ("gemma2.attention.layer_norm_rms_epsilon", shape.NormEpsilon),
                ("gemma2.attn_logit_softcapping", shape.AttentionSoftcap),
            ("gemma2.final_logit_softcapping", shape.FinalSoftcap), ("gemma2.attention.sliding_window", shape.SlidingWindow),
                ("gemma2.vocab_size", shape.VocabSize),
            ("tokenizer.ggml.model", "no_vocab"),
        ];
        Write(Magic);
        Write(Version);
        Write((ulong)tensors.Length);
        Write((ulong)settings.Length);
        foreach ((string name, object value) in settings)
            Setting(name, value);
        long offset = 0;
        foreach ((string name, TensorView tensor) in tensors)
        {
            Write(name + ".weight");
            Write((uint)tensor.Shape.Length);
            // The dimension that runs fastest comes first.
            for (int d = tensor.Shape.Length - 1; d >= 0; d--)
                Write((ulong)tensor.Shape[d]);
            Write(IsGain(tensor) ? Float32 : BFloat16Type);
            Write((ulong)offset);
            offset += Aligned(Bytes(tensor));
        }

        Pad();
    }

    private void Setting(string name, object value)
    {
        Write(name);
        switch (value)
        {
            case string text:
                Write(TypeString);
                Write(text);
                break;
            case int number:
                Write(TypeUInt32);
                Write((uint)number);
                break;
            case float number:
                Write(TypeFloat32);
                Write(BitConverter.SingleToUInt32Bits(number));
                break;
        }
    }

    private unsafe void Data(TensorView tensor)
    {
        if (IsGain(tensor))
        {
            foreach (BFloat16 gain in new ReadOnlySpan<BFloat16>(tensor.Pointer, checked((int)tensor.ElementCount)))
                Write(BitConverter.SingleToUInt32Bits(1 + (float)gain));
        }
        else
        {
            for (long at = 0; at < tensor.ByteLength; at += Piece)
                _stream.Write(new ReadOnlySpan<byte>((byte*)tensor.Pointer + at, (int)Math.Min(Piece, tensor.ByteLength - at)));
        }

        Pad();
    }

    private void Pad() => _stream.Write(new byte[Aligned(_stream.Position) - _stream.Position]);

    private void Write(string text)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(text);
        Write((ulong)bytes.Length);
        _stream.Write(bytes);
    }

    private void Write(uint value)
    {
        Span<byte> bytes = stackalloc byte[sizeof(uint)];
        BinaryPrimitives.WriteUInt32LittleEndian(bytes, value);
        _stream.Write(bytes);
    }

    private void Write(ulong value)
    {
        Span<byte> bytes = stackalloc byte[sizeof(ulong)];
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, value);
        _stream.Write(bytes);
    }
}
