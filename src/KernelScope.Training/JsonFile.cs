using System.Buffers;
using System.Text.Encodings.Web;
using System.Text.Json;
using KernelScope.Files;

namespace KernelScope.Training;

/// <summary>Small JSON texts: whole files, and lines of a log.</summary>
internal static class JsonFile
{
    private static readonly JsonWriterOptions Indented = new() { Indented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };
    private static readonly JsonWriterOptions OneLine = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>Writes a file that appears whole or not at all.</summary>
    public static void Write(string path, Action<Utf8JsonWriter> content)
    {
        using var file = AtomicFile.Create(path);
        file.Stream.Write(Text(content, Indented));
        file.Commit();
    }

    /// <summary>One line, without its end.</summary>
    public static ReadOnlySpan<byte> Line(Action<Utf8JsonWriter> content) => Text(content, OneLine);

    /// <summary>A number, or null where JSON has none.</summary>
    public static void Number(this Utf8JsonWriter json, string name, double value)
    {
        if (double.IsFinite(value))
            json.WriteNumber(name, value);
        else
            json.WriteNull(name);
    }

    private static ReadOnlySpan<byte> Text(Action<Utf8JsonWriter> content, JsonWriterOptions options)
    {
        var buffer = new ArrayBufferWriter<byte>();
        using (var json = new Utf8JsonWriter(buffer, options))
            content(json);
        return buffer.WrittenSpan;
    }
}
