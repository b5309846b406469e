using System.Runtime.InteropServices;
using FsCheck;
using FsCheck.Fluent;
using FsCheck.Xunit;
using KernelScope.Files;
using KernelScope.Numerics;

namespace KernelScope.Tests.Files;

/// <summary>What is written is read back: names, types, shapes and every byte.</summary>
public sealed unsafe class RoundTripTests
{
    private static readonly DType[] NpzTypes =
        [DType.F32, DType.F16, DType.F64, DType.I64, DType.I32, DType.I16, DType.I8, DType.U64, DType.U32, DType.U16, DType.U8, DType.Bool];
    private static readonly DType[] SafetensorsTypes = [.. NpzTypes, DType.BF16];

    /// <summary>A seed that stands for a set of arrays.</summary>
    public static class Arbitraries
    {
        public static Arbitrary<int> Seeds() => Gen.Choose(0, int.MaxValue - 1).ToArbitrary();
    }

    [Property(MaxTest = 200, Arbitrary = [typeof(Arbitraries)])]
    public void Npz(int seed)
    {
        using var folder = new TempFolder();
        (TensorInfo Info, byte[] Bytes)[] arrays = Arrays(new Random(seed), NpzTypes);
        string path = folder.At("a.npz");
        using (var writer = new NpzWriter(path))
        {
            foreach (var (info, bytes) in arrays)
                Write(writer, info, bytes);
            writer.Commit();
        }
        using NpzFile file = NpzFile.Open(path);
        file.Verify();
        CheckEqual(arrays, file);
    }

    [Property(MaxTest = 200, Arbitrary = [typeof(Arbitraries)])]
    public void Safetensors(int seed)
    {
        using var folder = new TempFolder();
        (TensorInfo Info, byte[] Bytes)[] arrays = Arrays(new Random(seed), SafetensorsTypes);
        string path = folder.At("a.safetensors");
        using (var writer = new SafetensorsWriter(path, arrays.Select(a => a.Info), seed % 2 == 0 ? null
            : new Dictionary<string, string> { ["format"] = "pt", ["ü"] = "\u001b[31m" }))
        {
            foreach (var (info, bytes) in arrays)
                Append(writer, info.DType, bytes);
            writer.Commit();
        }
        using SafetensorsFile file = SafetensorsFile.Open(path);
        CheckEqual(arrays, file);
        Assert.Equal(0, (new FileInfo(path).Length - arrays.Sum(a => a.Info.ByteLength)) % 8);
    }

    [Fact]
    public void Values_come_back_as_floats_and_integers()
    {
        using var folder = new TempFolder();
        string path = folder.At("a.npz");
        using (var writer = new NpzWriter(path))
        {
            writer.Add("f32", [1f, -0f, float.NaN, float.MaxValue], 2, 2);
            writer.Add("f64", [1e300, 0.1], 2);
            writer.Add("f16", [(Half)0.5, Half.PositiveInfinity], 2);
            writer.Add("i32", [int.MinValue, 7], 2);
            writer.Add("u64", [ulong.MaxValue], 1);
            writer.Add<float>("scalar", [3f]);
            writer.Add<long>("none", [], 0, 5);
            writer.Commit();
        }
        using NpzFile file = NpzFile.Open(path);
        Assert.Equal([1f, -0f, float.NaN, float.MaxValue], file["f32"].ToFloats());
        Assert.Equal([float.PositiveInfinity, 0.1f], file["f64"].ToFloats());
        Assert.Equal([0.5f, float.PositiveInfinity], file["f16"].ToFloats());
        Assert.Equal([int.MinValue, 7L], file["i32"].ToInt64s());
        Assert.Equal([3f], file["scalar"].ToFloats());
        Assert.Empty(file["none"].ToInt64s());
        Assert.Equal("a.npz: f32 F32 [2, 2]", file["f32"].Describe());
        Assert.Contains("i32", Assert.Throws<InvalidDataException>(() => file["i32"].ToFloats()).Message, StringComparison.Ordinal);
        Assert.Contains("f32", Assert.Throws<InvalidDataException>(() => file["f32"].ToInt64s()).Message, StringComparison.Ordinal);
        Assert.Contains("18446744073709551615", Assert.Throws<InvalidDataException>(() => file["u64"].ToInt64s()).Message,
            StringComparison.Ordinal);
        Sentences.Check(Assert.Throws<InvalidDataException>(() => file["absent\n"]).Message, path);
        float[] part = new float[2];
        file["f32"].CopyTo(2, part);
        Assert.Equal([float.NaN, float.MaxValue], part);
        Assert.Throws<ArgumentOutOfRangeException>(() => file["f32"].CopyTo(3, part));
        Assert.Throws<ArgumentException>(() => file["f32"].CopyTo(part));
    }

    [Fact]
    public void A_fortran_array_of_three_axes_is_copied_in_row_major_order()
    {
        using var folder = new TempFolder();
        string path = folder.At("a.npz");
        using (var writer = new NpzWriter(path))
        {
            writer.Add("x", [.. Enumerable.Range(0, 24)], 2, 3, 4);
            writer.Add("y", [.. Enumerable.Range(0, 24).Select(v => (float)v)], 2, 3, 4);
            writer.Commit();
        }
        // The same bytes, said to be in Fortran order: element (i, j, k) is then i + 2 j + 6 k.
        byte[] bytes = File.ReadAllBytes(path);
        for (int at; (at = bytes.AsSpan().IndexOf("False,"u8)) >= 0;)
            "True ,"u8.CopyTo(bytes.AsSpan(at));
        File.WriteAllBytes(path, bytes);
        var expected = new List<long>();
        for (int i = 0; i < 2; i++)
            for (int j = 0; j < 3; j++)
                for (int k = 0; k < 4; k++)
                    expected.Add(i + (2 * j) + (6 * k));
        using NpzFile file = NpzFile.Open(path);
        Assert.True(file["x"].ColumnMajor);
        Assert.Equal(expected, file["x"].ToInt64s());
        for (int first = 0; first < 24; first += 5)
        {
            float[] part = new float[Math.Min(9, 24 - first)];
            file["y"].CopyTo(first, part);
            Assert.Equal(expected.Skip(first).Take(part.Length).Select(v => (float)v), part);
        }
    }

    private static (TensorInfo, byte[])[] Arrays(Random random, DType[] types)
    {
        var arrays = new List<(TensorInfo, byte[])>();
        int count = random.Next(0, 6);
        for (int n = 0; n < count; n++)
        {
            long[] shape = new long[random.Next(0, 5)];
            for (int i = 0; i < shape.Length; i++)
                shape[i] = random.Next(0, 7);
            string name = $"{n}{(char)random.Next('a', 'z')}{(random.Next(3) == 0 ? "/é\u2028\"'\\" : "")}";
            var info = new TensorInfo(name, types[random.Next(types.Length)], shape);
            byte[] bytes = new byte[info.ByteLength];
            random.NextBytes(bytes);
            arrays.Add((info, bytes));
        }
        return [.. arrays];
    }

    private static void CheckEqual((TensorInfo Info, byte[] Bytes)[] arrays, TensorFile file)
    {
        Assert.Equal(arrays.Length, file.Tensors.Count);
        foreach (var (info, bytes) in arrays)
        {
            TensorView view = file[info.Name];
            Assert.Equal(info.DType, view.DType);
            Assert.Equal(info.Shape.ToArray(), view.Shape.ToArray());
            Assert.Equal(bytes, new ReadOnlySpan<byte>(view.Pointer, (int)view.ByteLength).ToArray());
        }
    }

    // In one piece or in two, by the first byte.
    private static void Write(NpzWriter writer, TensorInfo info, byte[] bytes)
    {
        writer.Begin(info);
        int size = info.DType.ByteSize(), cut = bytes.Length > 0 ? bytes[0] % (bytes.Length / size) * size : 0;
        AppendTo(writer, info.DType, bytes.AsSpan(0, cut));
        AppendTo(writer, info.DType, bytes.AsSpan(cut));
        writer.End();
    }

    private static void AppendTo(NpzWriter writer, DType type, ReadOnlySpan<byte> bytes)
    {
        switch (type)
        {
            case DType.F32: writer.Append(MemoryMarshal.Cast<byte, float>(bytes)); break;
            case DType.F16: writer.Append(MemoryMarshal.Cast<byte, Half>(bytes)); break;
            case DType.F64: writer.Append(MemoryMarshal.Cast<byte, double>(bytes)); break;
            case DType.I64: writer.Append(MemoryMarshal.Cast<byte, long>(bytes)); break;
            case DType.I32: writer.Append(MemoryMarshal.Cast<byte, int>(bytes)); break;
            case DType.I16: writer.Append(MemoryMarshal.Cast<byte, short>(bytes)); break;
            case DType.I8: writer.Append(MemoryMarshal.Cast<byte, sbyte>(bytes)); break;
            case DType.U64: writer.Append(MemoryMarshal.Cast<byte, ulong>(bytes)); break;
            case DType.U32: writer.Append(MemoryMarshal.Cast<byte, uint>(bytes)); break;
            case DType.U16: writer.Append(MemoryMarshal.Cast<byte, ushort>(bytes)); break;
            case DType.U8: writer.Append(bytes); break;
            default: writer.Append(MemoryMarshal.Cast<byte, bool>(bytes)); break;
        }
    }

    private static void Append(SafetensorsWriter writer, DType type, ReadOnlySpan<byte> bytes)
    {
        switch (type)
        {
            case DType.F32: writer.Append(MemoryMarshal.Cast<byte, float>(bytes)); break;
            case DType.BF16: writer.Append(MemoryMarshal.Cast<byte, BFloat16>(bytes)); break;
            case DType.F16: writer.Append(MemoryMarshal.Cast<byte, Half>(bytes)); break;
            case DType.F64: writer.Append(MemoryMarshal.Cast<byte, double>(bytes)); break;
            case DType.I64: writer.Append(MemoryMarshal.Cast<byte, long>(bytes)); break;
            case DType.I32: writer.Append(MemoryMarshal.Cast<byte, int>(bytes)); break;
            case DType.I16: writer.Append(MemoryMarshal.Cast<byte, short>(bytes)); break;
            case DType.I8: writer.Append(MemoryMarshal.Cast<byte, sbyte>(bytes)); break;
            case DType.U64: writer.Append(MemoryMarshal.Cast<byte, ulong>(bytes)); break;
            case DType.U32: writer.Append(MemoryMarshal.Cast<byte, uint>(bytes)); break;
            case DType.U16: writer.Append(MemoryMarshal.Cast<byte, ushort>(bytes)); break;
            case DType.U8: writer.Append(bytes); break;
            default: writer.Append(MemoryMarshal.Cast<byte, bool>(bytes)); break;
        }
    }
}
