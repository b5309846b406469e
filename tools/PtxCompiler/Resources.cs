using System.Globalization;
using System.Text;
using System.Text.Json;
using KernelScope.Kernels;

namespace KernelScope.PtxCompiler;

/// <summary>
/// <c>kernels/ptx/resources.json</c>: registers, spills, shared memory, blocks on a multiprocessor and loads under way of every kernel, as
/// NVIDIA's assembler gives them, and what may not get worse.
/// </summary>
public sealed class Resources
{
    /// <summary>Name of the file.</summary>
    public const string FileName = "resources.json";

    /// <summary>Bytes of spills that a kernel may have on any architecture.</summary>
    public const int MostSpillStores = 16, MostSpillLoads = 24;

    private static readonly int[] Architectures = [75, 80, 86, 89, 90];

    private readonly SortedDictionary<string, SortedDictionary<int, AssembledKernel>> _kernels = new(StringComparer.Ordinal);
    private readonly SortedDictionary<string, (int Stores, int Loads)> _spills = new(StringComparer.Ordinal);
    private readonly List<string> _problems = [];
    private readonly string _version;

    private Resources(string version) => _version = version;

    /// <summary>Assembles every committed file for every architecture that takes it.</summary>
    public static Resources Assemble(Assembly assembly, string folder)
    {
        ArgumentNullException.ThrowIfNull(assembly);
        var resources = new Resources(assembly.Version());
        var work = Directory.EnumerateDirectories(folder).SelectMany(d => Directory.EnumerateFiles(d, "*.ptx"))
            .SelectMany(file => Architectures.Where(a => a >= TargetOf(file)).Select(a => (File: file, Architecture: a))).ToArray();
        // Each waits for a process: without a limit there would be ever more of them.
        var limit = new ParallelOptions { MaxDegreeOfParallelism = Environment.ProcessorCount };
        Parallel.ForEach(work, limit, piece => resources.Add(assembly, piece.File, piece.Architecture));
        resources._problems.Sort(StringComparer.Ordinal);
        return resources;
    }

    /// <summary>
    /// What is wrong, a sentence each: files that do not assemble, spills, a kernel below its floor, numbers that are not those committed
    /// (where the assembler is of the same version).
    /// </summary>
    /// <param name="committed">The committed file; null: there is none.</param>
    /// <param name="note">What the user should know: kernels that spill more than the bar, and that the versions differ.</param>
    public IReadOnlyList<string> Problems(string? committed, out string note)
    {
        note = "";
        List<string> problems = [.. _problems];
        if (committed is null)
            return [.. problems, $"{FileName} is missing."];
        using JsonDocument document = JsonDocument.Parse(committed);
        string[] above = [.. document.RootElement.GetProperty("spills_above_the_bar").EnumerateObject().Select(p => p.Name)];
        if (above.Length > 0)
            note = $"Above the bar of {MostSpillStores} bytes of spill stores and {MostSpillLoads} of loads, as committed: " +
                $"{string.Join(", ", above)}. ";
        foreach ((string name, (int stores, int loads)) in _spills)
        {
            (int mostStores, int mostLoads) = document.RootElement.GetProperty("spills_above_the_bar")
                .TryGetProperty(name, out JsonElement known)
                ? (known.GetProperty("stores").GetInt32(), known.GetProperty("loads").GetInt32()) : (MostSpillStores, MostSpillLoads);
            if (stores > mostStores || loads > mostLoads)
                problems.Add(string.Create(CultureInfo.InvariantCulture,
                    $"{name} spills {stores} bytes and loads {loads}; {mostStores} and {mostLoads} are allowed."));
        }

        foreach (JsonProperty floor in document.RootElement.GetProperty("floor").EnumerateObject())
            problems.AddRange(BelowFloor(floor));
        string version = document.RootElement.GetProperty("ptxas").GetString()!;
        if (version != _version)
            note += $"{FileName} is of ptxas {version}, this is {_version}: " +
                $"registers may differ by a few, so only floors and spills count.";
        else if (committed.ReplaceLineEndings("\n") != Json(document.RootElement.GetProperty("floor")))
            problems.Add($"{FileName} is not what ptxas {_version} gives for the committed PTX: " +
                $"run tools/check-ptxas.sh --write and commit the result.");
        return problems;
    }

    /// <summary>The file's content, with the floors of the one before.</summary>
    public string Write(string? committed)
    {
        using JsonDocument document = JsonDocument.Parse(committed ?? "{\"floor\": {}}");
        return Json(document.RootElement.GetProperty("floor"));
    }

    /// <summary>Blocks of a kernel that a multiprocessor holds at once, by registers, shared memory and warps.</summary>
    /// <remarks>
    /// NVIDIA, CUDA C++ Programming Guide, "Technical Specifications per Compute Capability": registers go to warps in units of 256, and
    /// from 8.0 on a block's shared memory has 1 KiB for the system.
    /// </remarks>
    public static int BlocksPerMultiprocessor(int architecture, int registers, int shared, int threads)
    {
        (int sharedBytes, int warps, int blocks, int reserved) = architecture switch
        {
            75 => (64 << 10, 32, 16, 0),
            80 => (164 << 10, 64, 32, 1024),
            86 => (100 << 10, 48, 16, 1024),
            89 => (100 << 10, 48, 24, 1024),
            90 => (228 << 10, 64, 32, 1024),
            _ => throw new ArgumentOutOfRangeException(nameof(architecture)),
        };
        int byRegisters = 65_536 / ((registers + 7) / 8 * 8 * threads), byShared = shared + reserved == 0 ? blocks
            : sharedBytes / (shared + reserved), byWarps = warps * 32 / threads;
        return Math.Min(Math.Min(byRegisters, byShared), Math.Min(byWarps, blocks));
    }

    private static int TargetOf(string file) => int.Parse(Path.GetFileName(Path.GetDirectoryName(file))!.AsSpan("sm_".Length),
        CultureInfo.InvariantCulture);

    private void Add(Assembly assembly, string file, int architecture)
    {
        try
        {
            IReadOnlyDictionary<string, AssembledKernel> assembled = assembly.Assemble(file, architecture, IsLoaded(file, architecture));
            lock (_problems)
            {
                foreach ((string name, AssembledKernel kernel) in assembled)
                    Add(file, architecture, name, kernel);
            }
        }
        catch (InvalidOperationException e)
        {
            lock (_problems)
                _problems.Add(e.Message);
        }
    }

    /// <summary>Whether a device of the architecture loads the file: the newest that it can run.</summary>
    private static bool IsLoaded(string file, int architecture) => TargetOf(file) == 80 || architecture == 75;

    private void Add(string file, int architecture, string name, AssembledKernel kernel)
    {
        (int stores, int loads) = _spills.GetValueOrDefault(name);
        _spills[name] = (Math.Max(stores, kernel.SpillStores), Math.Max(loads, kernel.SpillLoads));

        if (!IsLoaded(file, architecture))
            return;
        if (!_kernels.TryGetValue(name, out SortedDictionary<int, AssembledKernel>? all))
            _kernels.Add(name, all = []);
        all[architecture] = kernel;
    }

    /// <summary>Whether floors hold on an architecture: from sm_80 on, and on the older one for kernels that newer ones have no use for.</summary>
    public static bool HasFloors(int architecture, IEnumerable<int> all) => architecture >= 80 || all.All(a => a < 80);

    private IEnumerable<string> BelowFloor(JsonProperty floor)
    {
        if (!_kernels.TryGetValue(floor.Name, out SortedDictionary<int, AssembledKernel>? all))
            return [$"{FileName} has a floor for '{floor.Name}', which is not a kernel."];
        int threads = Catalog.All.Single(k => k.Name == floor.Name).GroupSize;
        return floor.Value.EnumerateObject().SelectMany(least => all.Where(a => HasFloors(a.Key, all.Keys))
            .Select(a => (Least: least, Architecture: a.Key, Value: Value(least.Name, a.Key, a.Value, threads)))
            .Where(v => v.Value < v.Least.Value.GetInt32())
            .Select(v => string.Create(CultureInfo.InvariantCulture,
                $"{floor.Name} has {v.Value} {v.Least.Name} on sm_{v.Architecture}; its floor is {v.Least.Value.GetInt32()}.")));
    }

    private static int Value(string name, int architecture, AssembledKernel kernel, int threads) => name switch
    {
        "blocks_per_sm" => BlocksPerMultiprocessor(architecture, kernel.Registers, kernel.Shared, threads),
        "loads_before_first_use" => kernel.LoadsBeforeFirstUse ?? 0,
        _ => throw new InvalidOperationException($"{FileName} has a floor of '{name}'; " +
            "there are blocks_per_sm and loads_before_first_use."),
    };

    private string Json(JsonElement floor)
    {
        using var stream = new MemoryStream();
        using (var json = new Utf8JsonWriter(stream, new JsonWriterOptions { Indented = true, NewLine = "\n" }))
        {
            json.WriteStartObject();
            json.WriteNumber("format", 1);
            json.WriteString("ptxas", _version);
            json.WritePropertyName("floor");
            floor.WriteTo(json);
            json.WriteStartObject("spills_above_the_bar");
            foreach ((string name, (int stores, int loads)) in _spills.Where(s => s.Value.Stores > MostSpillStores
                || s.Value.Loads > MostSpillLoads))
            {
                json.WriteStartObject(name);
                json.WriteNumber("stores", stores);
                json.WriteNumber("loads", loads);
                json.WriteEndObject();
            }

            json.WriteEndObject();
            json.WriteStartObject("kernels");
            foreach ((string name, SortedDictionary<int, AssembledKernel> all) in _kernels)
                WriteKernel(json, name, all);
            json.WriteEndObject();
            json.WriteEndObject();
        }

        return Encoding.UTF8.GetString(stream.ToArray()) + "\n";
    }

    private static void WriteKernel(Utf8JsonWriter json, string name, SortedDictionary<int, AssembledKernel> all)
    {
        int threads = Catalog.All.Single(k => k.Name == name).GroupSize;
        json.WriteStartObject(name);
        foreach ((int architecture, AssembledKernel kernel) in all)
        {
            int blocks = BlocksPerMultiprocessor(architecture, kernel.Registers, kernel.Shared, threads);
            json.WriteStartObject(string.Create(CultureInfo.InvariantCulture, $"sm_{architecture}"));
            json.WriteNumber("registers", kernel.Registers);
            json.WriteNumber("stack", kernel.Stack);
            json.WriteNumber("spill_stores", kernel.SpillStores);
            json.WriteNumber("spill_loads", kernel.SpillLoads);
            json.WriteNumber("shared", kernel.Shared);
            json.WriteNumber("blocks_per_sm", blocks);
            json.WriteNumber("warps_per_sm", blocks * threads / 32);
            if (kernel.LoadsBeforeFirstUse is int loads)
                json.WriteNumber("loads_before_first_use", loads);
            json.WriteEndObject();
        }

        json.WriteEndObject();
    }
}
