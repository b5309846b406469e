using System.Buffers.Binary;
using System.Globalization;
using KernelScope.PtxEmulator;

namespace KernelScope.PtxRun;

/// <summary>One launch from the command line: makes the buffers, packs the parameters, runs, prints.</summary>
internal sealed class Run(PtxKernel kernel)
{
    private readonly List<Buffer> _buffers = [];
    private readonly byte[] _parameters = new byte[kernel.ParameterBytes];

    /// <summary>A buffer that an argument asked for.</summary>
    internal sealed record Buffer(string Name, string Type, int Count, ulong Address)
    {
        public int ElementBytes => Type switch { "f32" or "i32" => 4, "u16" => 2, _ => 1 };
    }

    public void Execute(ReadOnlySpan<string> arguments)
    {
        Dim3 grid = new(1);
        Dim3 block = new(1);
        int shared = 0;
        bool isChecked = true;
        bool lines = false;
        var values = new List<string>();
        for (int i = 0; i < arguments.Length; i++)
        {
            string Value(ReadOnlySpan<string> from) =>
                i + 1 < from.Length ? from[++i] : throw new UsageException($"{from[i]} needs a value");
            switch (arguments[i])
            {
                case "--grid":
                    grid = Extent(Value(arguments));
                    break;
                case "--block":
                    block = Extent(Value(arguments));
                    break;
                case "--shared":
                    shared = (int)Number(Value(arguments));
                    break;
                case "--unchecked":
                    isChecked = false;
                    break;
                case "--lines":
                    lines = true;
                    break;
                default:
                    values.Add(arguments[i]);
                    break;
            }
        }
        if (values.Count != kernel.Parameters.Count)
            throw new UsageException(
                $"{kernel.Name} has {kernel.Parameters.Count} parameters "
                    + $"({string.Join(", ", kernel.Parameters.Select(p => $"{p.Name}: {p.Size} bytes"))}) and {values.Count} arguments "
                    + "are given");
        using var gpu = new EmulatedGpu();
        for (int i = 0; i < values.Count; i++)
            Pack(gpu, kernel.Parameters[i], values[i]);
        var options = new LaunchOptions { Checked = isChecked, MaxDynamicSharedBytes = Math.Max(shared, 48 * 1024) };
        LaunchResult result = gpu.Launch(kernel, grid, block, shared, _parameters, options);
        Report.Counters(result);
        if (lines)
            Report.Lines(result);
        foreach (Buffer buffer in _buffers)
            Report.Head(gpu, buffer);
    }

    private static Dim3 Extent(string text)
    {
        int[] parts = [.. text.Split(',').Select(p => (int)Number(p))];
        return parts.Length is 0 or > 3 ? throw new UsageException($"'{text}' is not an extent X[,Y[,Z]]")
            : new Dim3(parts[0], parts.Length > 1 ? parts[1] : 1, parts.Length > 2 ? parts[2] : 1);
    }

    private static long Number(string text) =>
        long.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out long number) ? number
            : throw new UsageException($"'{text}' is not an integer");

    private void Pack(EmulatedGpu gpu, PtxParameter parameter, string text)
    {
        string[] parts = text.Split(':');
        Span<byte> place = _parameters.AsSpan(parameter.Offset, parameter.Size);
        int needed = parts[0] switch
        {
            "i32" or "f32" => 4,
            "i64" or "buf" => 8,
            "view" =>
            16,
            _ => throw new UsageException($"'{text}' is not an argument: see --help")
        };
        if (needed != parameter.Size || parts.Length < 2)
            throw new UsageException($"parameter {parameter.Name} has {parameter.Size} bytes, which '{text}' does not fit");
        switch (parts[0])
        {
            case "i32":
                BinaryPrimitives.WriteInt32LittleEndian(place, (int)Number(parts[1]));
                break;
            case "i64":
                BinaryPrimitives.WriteInt64LittleEndian(place, Number(parts[1]));
                break;
            case "f32":
                if (!float.TryParse(parts[1], NumberStyles.Float, CultureInfo.InvariantCulture, out float value))
                    throw new UsageException($"'{parts[1]}' is not a number");
                BinaryPrimitives.WriteSingleLittleEndian(place, value);
                break;
            default:
                Buffer buffer = Make(gpu, parameter.Name, text, parts);
                BinaryPrimitives.WriteUInt64LittleEndian(place, buffer.Address);
                if (parts[0] == "view")
                    BinaryPrimitives.WriteInt64LittleEndian(place[8..], buffer.Count);
                break;
        }
    }

    private Buffer Make(EmulatedGpu gpu, string name, string text, string[] parts)
    {
        if (parts.Length is < 3 or > 4 || parts[1] is not ("f32" or "i32" or "u16" or "u8"))
            throw new UsageException($"'{text}' is not a buffer: see --help");
        int count = (int)Number(parts[2]);
        var buffer = new Buffer(name, parts[1], count, 0);
        buffer = buffer with { Address = gpu.Allocate((long)count * buffer.ElementBytes, name) };
        _buffers.Add(buffer);
        string fill = parts.Length == 4 ? parts[3] : "zero";
        if (fill == "none")
            return buffer;
        var bytes = new byte[(long)count * buffer.ElementBytes];
        var random = new Random(1);
        for (int i = 0; i < count && fill != "zero"; i++)
            Put(bytes.AsSpan(i * buffer.ElementBytes, buffer.ElementBytes), buffer.Type, fill switch
            {
                "ramp" => i,
                "random" => buffer.Type == "f32" ? random.NextSingle() - 0.5f : random.Next(256),
                _ => throw new UsageException($"'{fill}' is not one of zero, ramp, random, none"),
            });
        gpu.Write(buffer.Address, bytes);
        return buffer;
    }

    private static void Put(Span<byte> place, string type, float value)
    {
        switch (type)
        {
            case "f32":
                BinaryPrimitives.WriteSingleLittleEndian(place, value);
                break;
            case "i32":
                BinaryPrimitives.WriteInt32LittleEndian(place, (int)value);
                break;
            case "u16":
                BinaryPrimitives.WriteUInt16LittleEndian(place, (ushort)value);
                break;
            default:
                place[0] = (byte)value;
                break;
        }
    }
}
