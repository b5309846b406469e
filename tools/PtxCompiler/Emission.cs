using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using KernelScope.Kernels;

namespace KernelScope.PtxCompiler;

/// <summary>Everything that belongs into <c>kernels/ptx</c>: relative path to content.</summary>
public sealed class Emission
{
    private readonly SortedDictionary<string, string> _files = new(StringComparer.Ordinal);

    private Emission()
    {
    }

    /// <summary>Content by path, with '/' between folders and '\n' between lines.</summary>
    public IReadOnlyDictionary<string, string> Files => _files;

    /// <summary>The C# that launches the kernels, for <see cref="Launchers.FilePath"/>.</summary>
    public string Launchers => PtxCompiler.Launchers.Write(_files["manifest.json"]);

    /// <summary>Compiles <paramref name="kernels"/> for every target that they run on.</summary>
    /// <param name="kernels">The catalogue.</param>
    /// <param name="sourceHash">See <see cref="HashSources"/>.</param>
    /// <exception cref="InvalidOperationException">A kernel does not compile or breaks a rule; the message lists them all.</exception>
    public static Emission Create(IReadOnlyList<KernelEntry> kernels, string sourceHash)
    {
        using var compiler = new KernelCompiler();
        var problems = new List<string>();
        var texts = new Dictionary<(KernelEntry, GpuTarget), string>();
        foreach (KernelEntry kernel in kernels)
        {
            foreach (GpuTarget target in TargetsOf(kernel))
            {
                string text = PtxText.WithMinBlocks(PtxText.Normalize(compiler.Compile(kernel, target), kernel.Name), kernel.MinBlocks);
                text = PtxText.WithGridWait(text);
                problems.AddRange(PtxRules.Violations(text, target).Select(v => $"{kernel.Name} ({Name(target)}): {v}"));
                texts.Add((kernel, target), text);
            }
        }

        if (problems.Count > 0)
            throw new InvalidOperationException(string.Join('\n', problems));
        var emission = new Emission();
        emission.AddModules(kernels, texts);
        emission._files.Add("manifest.json", Manifest(kernels, texts, sourceHash));
        return emission;
    }

    /// <summary>
    /// Hash of the sources that the kernels are made of, comments included: names and newlines are the same on every system.
    /// </summary>
    public static string HashSources(string folder)
    {
        var all = new StringBuilder();
        foreach (string file in Directory.EnumerateFiles(folder, "*.cs").OrderBy(f => Path.GetFileName(f), StringComparer.Ordinal))
            all.Append(Path.GetFileName(file)).Append('\n').Append(File.ReadAllText(file).ReplaceLineEndings("\n"));
        return Hash(all.ToString());
    }

    /// <summary>The differences between a folder and this: one sentence a file, with the first line that differs.</summary>
    public IReadOnlyList<string> Differences(string folder)
    {
        var found = new List<string>();
        foreach ((string path, string text) in _files)
        {
            if (Difference(Path.Combine(folder, path), text) is string difference)
                found.Add($"{path}{difference}");
        }

        if (!Directory.Exists(folder))
            return found;
        foreach (string file in Directory.EnumerateFiles(folder, "*", SearchOption.AllDirectories))
        {
            string path = Path.GetRelativePath(folder, file).Replace('\\', '/');
            if (!_files.ContainsKey(path) && path != Resources.FileName)
                found.Add($"{path} belongs to no kernel.");
        }

        return found;
    }

    /// <summary>How a committed file differs from what it should be, to be put behind its name; null: it does not.</summary>
    public static string? Difference(string file, string text) => !File.Exists(file) ? " is missing."
        : FirstDifference(File.ReadAllText(file).ReplaceLineEndings("\n"), text) is string difference ? $", {difference}" : null;

    /// <summary>Writes the files and removes those that belong to no kernel.</summary>
    public void Write(string folder)
    {
        foreach ((string path, string text) in _files)
        {
            string file = Path.Combine(folder, path);
            Directory.CreateDirectory(Path.GetDirectoryName(file)!);
            if (File.Exists(file) && File.ReadAllText(file) == text)
                continue;
            File.WriteAllText(file + ".new", text);
            File.Move(file + ".new", file, overwrite: true);
        }

        foreach (string file in Directory.EnumerateFiles(folder, "*", SearchOption.AllDirectories))
        {
            string path = Path.GetRelativePath(folder, file).Replace('\\', '/');
            if (!_files.ContainsKey(path) && path != Resources.FileName)
                File.Delete(file);
        }
    }

    private static IEnumerable<GpuTarget> TargetsOf(KernelEntry kernel) =>
        Enum.GetValues<GpuTarget>().Where(t => t >= kernel.MinTarget && t <= kernel.MaxTarget);

    private static string Name(GpuTarget target) => string.Create(CultureInfo.InvariantCulture, $"sm_{(int)target}");

    private static string FileOf(string family, GpuTarget target) => $"{Name(target)}/{family}.ptx";

    private static string Hash(string text) => Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(text)));

    private static string? FirstDifference(string committed, string emitted)
    {
        if (committed == emitted)
            return null;
        string[] old = committed.Split('\n'), now = emitted.Split('\n');
        int line = 0;
        while (line < old.Length && line < now.Length && old[line] == now[line])
            line++;
        string At(string[] lines) => line < lines.Length ? lines[line].Trim() : "(end of file)";
        return string.Create(CultureInfo.InvariantCulture, $"line {line + 1}: committed '{At(old)}', the source gives '{At(now)}'.");
    }

    private void AddModules(IReadOnlyList<KernelEntry> kernels, Dictionary<(KernelEntry, GpuTarget), string> texts)
    {
        foreach (var module in texts.Keys.GroupBy(k => (k.Item1.Family, Target: k.Item2)))
        {
            var text = new StringBuilder();
            text.Append($"// Kernels of family '{module.Key.Family}'. Made by tools/PtxCompiler from kernels/*.cs; change those.\n");
            text.Append($".version {KernelCompiler.PtxVersion}\n.target {Name(module.Key.Target)}\n.address_size 64\n");
            foreach (KernelEntry kernel in kernels.Where(k => k.Family == module.Key.Family))
            {
                if (texts.TryGetValue((kernel, module.Key.Target), out string? entry))
                    text.Append('\n').Append(entry);
            }

            _files.Add(FileOf(module.Key.Family, module.Key.Target), text.ToString());
        }
    }

    private static string Manifest(IReadOnlyList<KernelEntry> kernels, Dictionary<(KernelEntry, GpuTarget), string> texts,
        string sourceHash)
    {
        using var stream = new MemoryStream();
        using (var json = new Utf8JsonWriter(stream, new JsonWriterOptions { Indented = true, NewLine = "\n" }))
        {
            json.WriteStartObject();
            json.WriteNumber("format", 1);
            json.WriteString("ilgpu", KernelCompiler.IlgpuVersion);
            json.WriteString("ptx_isa", KernelCompiler.PtxVersion);
            json.WriteString("source_sha256", sourceHash);
            json.WriteStartArray("kernels");
            foreach (KernelEntry kernel in kernels)
                WriteKernel(json, kernel, texts);
            json.WriteEndArray();
            json.WriteEndObject();
        }

        return Encoding.UTF8.GetString(stream.ToArray()) + "\n";
    }

    private static void WriteKernel(Utf8JsonWriter json, KernelEntry kernel, Dictionary<(KernelEntry, GpuTarget), string> texts)
    {
        string first = texts[(kernel, kernel.MinTarget)];
        json.WriteStartObject();
        json.WriteString("name", kernel.Name);
        json.WriteString("family", kernel.Family);
        json.WriteString("method", $"{kernel.Method.DeclaringType!.Name}.{kernel.Method.Name}");
        json.WriteNumber("group_size", kernel.GroupSize);
        json.WriteString("grid", kernel.Grid);
        json.WriteNumber("tile_rows", kernel.TileRows);
        json.WriteNumber("tile_columns", kernel.TileColumns);
        json.WriteNumber("shared_bytes", PtxText.SharedBytes(first));
        json.WriteStartArray("parameters");
        var types = kernel.Method.GetParameters().ToDictionary(p => p.Name!, p => TypeName(p.ParameterType));
        foreach (PtxParameter parameter in PtxText.Parameters(first))
        {
            json.WriteStartObject();
            json.WriteString("name", parameter.Name);
            json.WriteNumber("offset", parameter.Offset);
            json.WriteNumber("size", parameter.Size);
            json.WriteString("type", types[parameter.Name]);
            json.WriteEndObject();
        }

        json.WriteEndArray();
        json.WriteStartArray("code");
        foreach (GpuTarget target in TargetsOf(kernel))
        {
            json.WriteStartObject();
            json.WriteString("target", Name(target));
            json.WriteString("file", FileOf(kernel.Family, target));
            json.WriteString("sha256", Hash(texts[(kernel, target)]));
            json.WriteEndObject();
        }

        json.WriteEndArray();
        json.WriteEndObject();
    }

    private static string TypeName(Type type)
    {
        if (type.IsGenericType)
            return TypeName(type.GetGenericArguments()[0]) + "[]";
        return type.Name switch
        {
            "Single" => "f32",
            "Int32" => "i32",
            "Int64" => "i64",
            "UInt64" => "u64",
            "UInt32" => "u32",
            "BF16" => "bf16",
            "F16" => "f16",
            "F32" => "f32",
            "Words4" => "b32x4",
            "Words2" => "b32x2",
            "Float4" => "f32x4",
            "Float2" => "f32x2",
            string name => throw new InvalidOperationException($"A kernel parameter of type {name} has no name in the manifest."),
        };
    }
}
