using System.Text;

namespace KernelScope.Bench.Peers;

/// <summary>A JumpReLU encoder as an ONNX model, in the few protobuf fields that it takes. Field numbers: onnx.proto of ONNX (IR version 10, operator set 21).</summary>
internal static class OnnxModel
{
    private const int Float = 1;

    /// <summary>y = where(a &gt; θ, a, 0), a = x·W + b, with W [inputs, features] row by row.</summary>
    public static byte[] Encoder(ReadOnlySpan<byte> weight, float[] bias, float[] threshold, int rows, int inputs)
    {
        int features = bias.Length;
        byte[] nodes =
        [
            .. Field(1, Node("Gemm", "a", "x", "w", "b")),
            .. Field(1, Node("Greater", "active", "a", "theta")),
            .. Field(1, Node("Where", "y", "active", "a", "zero")),
        ];
        var graph = new MemoryStream(weight.Length + (1 << 20));
        graph.Write(nodes);
        graph.Write(Field(2, "encoder"u8));
        Initializer(graph, "w", weight, inputs, features);
        Initializer(graph, "b", Bytes(bias), features);
        Initializer(graph, "theta", Bytes(threshold), features);
        Initializer(graph, "zero", Bytes([0f]), 1);
        graph.Write(Field(11, Value("x", rows, inputs)));
        graph.Write(Field(12, Value("y", rows, features)));

        ReadOnlySpan<byte> body = graph.GetBuffer().AsSpan(0, (int)graph.Length);
        byte[] version = [.. Field(1, 10), .. Field(8, Field(2, 21))];
        return [.. version, .. Varint((7 << 3) | 2), .. Varint((ulong)body.Length), .. body];
    }

    private static byte[] Node(string op, string output, params string[] inputs) =>
        [.. inputs.SelectMany(input => Field(1, Encoding.UTF8.GetBytes(input))), .. Field(2, Encoding.UTF8.GetBytes(output)),
            .. Field(4, Encoding.UTF8.GetBytes(op))];

    private static byte[] Value(string name, params int[] shape)
    {
        byte[] dimensions = [.. shape.SelectMany(n => Field(1, Field(1, (ulong)n)))];
        byte[] tensor = [.. Field(1, Float), .. Field(2, dimensions)];
        return [.. Field(1, Encoding.UTF8.GetBytes(name)), .. Field(2, Field(1, tensor))];
    }

    private static void Initializer(MemoryStream graph, string name, ReadOnlySpan<byte> raw, params int[] shape)
    {
        byte[] head =
            [.. shape.SelectMany(n => Field(1, (ulong)n)), .. Field(2, Float), .. Field(8, Encoding.UTF8.GetBytes(name)),
                .. Varint((9 << 3) | 2), .. Varint((ulong)raw.Length)];
        graph.Write(Varint((5 << 3) | 2));
        graph.Write(Varint((ulong)head.Length + (ulong)raw.Length));
        graph.Write(head);
        graph.Write(raw);
    }

    private static ReadOnlySpan<byte> Bytes(float[] values) => System.Runtime.InteropServices.MemoryMarshal.AsBytes<float>(values);

    private static byte[] Field(int number, ulong value) => [.. Varint((ulong)number << 3), .. Varint(value)];

    private static byte[] Field(int number, ReadOnlySpan<byte> bytes) =>
        [.. Varint(((ulong)number << 3) | 2), .. Varint((ulong)bytes.Length), .. bytes];

    private static byte[] Varint(ulong value)
    {
        var bytes = new List<byte>();
        for (; value >= 0x80; value >>= 7)
            bytes.Add((byte)(value | 0x80));
        bytes.Add((byte)value);
        return [.. bytes];
    }
}
