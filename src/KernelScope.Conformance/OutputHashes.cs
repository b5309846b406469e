using System.Text.Json;

namespace KernelScope.Conformance;

/// <summary>
/// What the cases of the suite give bit by bit, as SHA-256: of everything that a case makes the device write. A kernel's bits are the same
/// on every GPU where no tensor core takes part (<see cref="OutputHash.Portable"/>),
/// because each product and sum is rounded by itself and in a fixed order: so a hash finds a misread instruction that a tolerance hides.
/// The bits are those of this project's kernels; whether they are right, the suite says.
/// </summary>
/// <remarks>Immutable: any number of threads may use it.</remarks>
public sealed class OutputHashes
{
    private const string Resource = "hashes/tiny.json";

    /// <summary>Hashes by case.</summary>
    public OutputHashes(ConformanceScale scale, string precision, IReadOnlyDictionary<string, OutputHash> cases)
    {
        Scale = scale;
        Precision = precision;
        Cases = cases;
    }

    /// <summary>Which shapes.</summary>
    public ConformanceScale Scale { get; }

    /// <summary>The device's precision, <c>exact</c> or <c>fast</c>.</summary>
    public string Precision { get; }

    /// <summary>By <c>op: name</c>.</summary>
    public IReadOnlyDictionary<string, OutputHash> Cases { get; }

    /// <summary>Those that the emulator gave for the tiny scale in exact precision.</summary>
    public static OutputHashes Embedded
    {
        get
        {
            using Stream stream = typeof(OutputHashes).Assembly.GetManifestResourceStream(Resource)!;
            byte[] bytes = new byte[stream.Length];
            stream.ReadExactly(bytes);
            return Parse(bytes, Resource);
        }
    }

    /// <summary>What is wrong with a result; null if nothing is, or if only the emulator could give these bits.</summary>
    /// <param name="result">The result.</param>
    /// <param name="portableOnly">Leave out the cases in which tensor cores take part, whose sums differ from generation to
    /// generation.</param>
    public string? Problem(ConformanceResult result, bool portableOnly)
    {
        ArgumentNullException.ThrowIfNull(result);
        if (!Cases.TryGetValue($"{result.Op}: {result.Name}", out OutputHash expected))
            return "there is no hash of this case";
        return result.Hash == expected.Hash || (portableOnly && !expected.Portable) ? null
            : $"its output has the hash {Short(result.Hash)}, expected {Short(expected.Hash)}";
    }

    /// <summary>Reads a file's content.</summary>
    /// <exception cref="InvalidDataException">It is not such a file.</exception>
    public static OutputHashes Parse(ReadOnlyMemory<byte> json, string name)
    {
        try
        {
            using JsonDocument document = JsonDocument.Parse(json);
            JsonElement root = document.RootElement;
            var cases = root.GetProperty("cases").EnumerateObject().ToDictionary(
                c => c.Name, c => new OutputHash
                {
                    Hash = c.Value.GetProperty("hash").GetString()!,
                    Portable = c.Value.GetProperty("portable").GetBoolean()
                }, StringComparer.Ordinal);
            return new OutputHashes(Enum.Parse<ConformanceScale>(root.GetProperty("scale").GetString()!, ignoreCase: true),
                root.GetProperty("precision").GetString()!, cases);
        }
        catch (Exception e) when (e is JsonException or KeyNotFoundException or InvalidOperationException or ArgumentException)
        {
            throw new InvalidDataException($"{name} is not a file of hashes as --write-hashes makes it: {e.Message}", e);
        }
    }

    /// <summary>Writes the file's content.</summary>
    public void Write(Stream stream)
    {
        using var json = new Utf8JsonWriter(stream, new JsonWriterOptions
        {
            Indented = true,
            NewLine = "\n",
            Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping
        });
        json.WriteStartObject();
        json.WriteString("scale", Scale.ToString().ToLowerInvariant());
        json.WriteString("precision", Precision);
        json.WriteStartObject("cases");
        foreach ((string name, OutputHash output) in Cases)
        {
            json.WriteStartObject(name);
            json.WriteString("hash", output.Hash);
            json.WriteBoolean("portable", output.Portable);
            json.WriteEndObject();
        }

        json.WriteEndObject();
        json.WriteEndObject();
    }

    private static string Short(string hash) => hash.Length > 12 ? hash[..12] : hash;
}

/// <summary>The bits of a case.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public readonly record struct OutputHash
{
    /// <summary>SHA-256, hexadecimal.</summary>
    public required string Hash { get; init; }

    /// <summary>Whether no tensor core took part.</summary>
    public required bool Portable { get; init; }
}
