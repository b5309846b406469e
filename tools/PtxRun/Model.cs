using System.Globalization;
using System.Text.Json;

namespace KernelScope.PtxRun;

/// <summary>
/// What a decode step of Gemma 2 2B (bfloat16, one sequence) should take on a GPU: an estimate from sizes, from
/// <c>kernels/ptx/resources.json</c>, and from published figures of the GPUs. Nothing here is measured.
/// </summary>
/// <remarks>
/// Little's law: to saturate its memory a GPU needs B = rate·latency / multiprocessors bytes under way on each. A warp with n loads of 16
/// bytes a lane under way holds 512·n, so that a kernel gets
/// min(1, warps·512·n / B) of the rate, times x/⌈x⌉ where its blocks fill x waves. A launch in a graph costs about 1 µs, and a kernel of
/// one block its serial latencies.
/// From sm_90 on launches overlap (NVIDIA, CUDA Programming Guide, "Programmatic Dependent Launch and Synchronization": the launch and what a kernel does before its wait run beside the end of the kernel
/// before). What then remains between two kernels is assumed to be one access to the cache that all multiprocessors share, by which the waiting groups learn that they may go on. A product's groups that
/// have room beside the kernel before ask for the first 8 KiB of their weights (<c>Gemv.WaitForGrid</c>); as much of it counts as the memory can deliver while that kernel leaves it idle,
/// and is then read from the L2 cache, no faster than that gives; of eight rows it is the first stages of the ring, which go to shared memory. Idle: all but its bytes of attention, of norms and of attention's merge, and the nine waits behind <c>o</c> and
/// <c>down</c>; nothing of any other product.
/// </remarks>
internal sealed class Model
{
    /// <summary>Assumed: of a load from memory, from a cache that all multiprocessors share, and of a launch within a graph.</summary>
    private const double MemoryLatency = 0.7e-6, CacheLatency = 0.3e-6, LaunchTime = 1e-6;

    /// <summary>The waits of <see cref="WithNorm"/>.</summary>
    private const double NormTime = 9 * CacheLatency;

    /// <summary>Of a datasheet's bandwidth, what a copy gets; assumed, as 4.3 of an H200's 4.8 TB/s.</summary>
    private const double CopyShare = 0.9;

    /// <summary>Assumed: the rate of the L2 cache.</summary>
    private const double SecondCacheRate = 5.5e12;

    private const int Layers = 26, Width = 2304, Hidden = 9216, Heads = 8, KvHeads = 4, HeadDim = 256, Vocabulary = 256_000,
        Window = 4096, KeysPerSplit = 32, MaxSplits = 64;

    /// <summary>Of the key loop of <c>attend_wide_part_2heads</c> for one key and two heads, counted in its assembly for sm_90.</summary>
    private const int InstructionsOfKey = 375;

    /// <summary>Of <c>gemv_ring_bf16</c>, in its assembly for sm_90: of the loop, for a piece of eighteen outputs and eight rows, and of a warp before and behind it.</summary>
    private const int InstructionsOfPiece = 1466, InstructionsAroundPieces = 750;

    /// <summary>
    /// Datasheets of NVIDIA: bandwidth, multiprocessors, clock (of H100 and H200 what they keep up), L1 cache and shared memory of a multiprocessor; and whose row of the resources fits.
    /// </summary>
    private static readonly (string Name, double Bandwidth, int Multiprocessors, string Architecture, double Clock, int FirstCache)[] Gpus =
        [("H100", 3.35e12, 132, "sm_90", 1.755e9, 256 << 10), ("H200", 4.8e12, 132, "sm_90", 1.755e9, 256 << 10),
            ("A100", 2.039e12, 108, "sm_80", 1.41e9, 192 << 10), ("4090", 1.008e12, 128, "sm_89", 2.52e9, 128 << 10)];

    private readonly JsonElement _kernels;
    private readonly JsonElement _manifest;
    private readonly (string Name, double Bandwidth, int Multiprocessors, string Architecture, double Clock, int FirstCache) _gpu;

    private readonly int _cacheBytes;
    private readonly bool _overlaps;

    private Model(JsonElement kernels, JsonElement manifest, (string, double, int, string Architecture, double, int) gpu, int cacheBytes,
        bool overlaps = true)
    {
        _cacheBytes = cacheBytes;
        _overlaps = overlaps && gpu.Architecture == "sm_90";
        _kernels = kernels;
        _manifest = manifest;
        _gpu = gpu;
    }

    private double Rate => CopyShare * _gpu.Bandwidth;

    /// <summary>Between the end of a kernel and the start of the next.</summary>
    private double Gap => _overlaps ? CacheLatency : LaunchTime;

    /// <summary>Prints the table.</summary>
    /// <param name="folder">With <c>resources.json</c> and <c>manifest.json</c>.</param>
    /// <param name="gpu">Which GPU; empty: all, by their totals.</param>
    /// <param name="position">Keys before the token.</param>
    /// <param name="cacheBytes">Of a key's or value's number in the cache: 4 or 2.</param>
    /// <param name="sequences">How many sequences share the step, at the same position: 1, or 5 to 8.</param>
    /// <exception cref="UsageException">There is no such GPU.</exception>
    public static void Print(string folder, string gpu, int position, int cacheBytes, int sequences)
    {
        using JsonDocument resources = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(folder, "resources.json"))),
            manifest = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(folder, "manifest.json")));
        if (gpu.Length > 0 && !Gpus.Any(g => g.Name == gpu))
            throw new UsageException($"'{gpu}' is none of {string.Join(", ", Gpus.Select(g => g.Name))}.");
        Console.WriteLine($"Estimates, nothing measured; ptxas {resources.RootElement.GetProperty("ptxas").GetString()}. " +
            $"Decode of Gemma 2 2B in bfloat16 at position {position.ToString(CultureInfo.InvariantCulture)}, " +
            $"cache in {(cacheBytes == 2 ? "bfloat16" : "float32")}.");
        foreach (var one in Gpus.Where(g => gpu.Length == 0 || g.Name == gpu))
            new Model(resources.RootElement.GetProperty("kernels"), manifest.RootElement.GetProperty("kernels"), one, cacheBytes)
                .Print(position, sequences, details: gpu.Length > 0);
    }

    private void Print(int position, int sequences, bool details)
    {
        List<Row> rows = sequences == 1 ? Rows(position) : RowsOf(position, sequences);
        double bytes = rows.Sum(r => r.Times * r.Bytes), seconds = Seconds(rows);
        if (details)
        {
            Console.WriteLine($"{"kernel",-34}{"times",6}{"MB",9}{"at the rate",13}{"estimate",10}{"share",7}  bound by");
            foreach (Row r in rows)
            {
                Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
                    $"{r.Name,-34}{r.Times,6}{r.Bytes / 1e6,9:0.00}{r.Bytes / Rate * 1e6,10:0.0} µs") +
                    string.Create(CultureInfo.InvariantCulture, $"{r.Seconds * 1e6,7:0.0} µs") +
                    string.Create(CultureInfo.InvariantCulture, $"{(r.Bytes / Rate / r.Seconds),7:0.00}  {r.Bound}"));
            }
        }

        Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
            $"{_gpu.Name}: {rows.Sum(r => r.Times)} launches, {seconds * 1e3:0.00} ms a token, ") +
            string.Create(CultureInfo.InvariantCulture, $"{1 / seconds:0} tokens/s, {bytes / Rate / seconds:0.00} of the ") +
            string.Create(CultureInfo.InvariantCulture, $"copy rate of {Rate / 1e12:0.00} TB/s (assumed)."));
        if (_overlaps)
        {
            var plain = new Model(_kernels, _manifest, _gpu, _cacheBytes, overlaps: false);
            double longer = plain.Seconds(sequences == 1 ? plain.Rows(position) : plain.RowsOf(position, sequences));
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
                $"  With launches that do not overlap {longer * 1e3:0.00} ms, {bytes / Rate / longer:0.00} of the copy rate."));
        }

        if (sequences > 1)
        {
            double one = Seconds(Rows(position));
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
                $"  A token of each of {sequences} sequences: {sequences / seconds:0} tokens/s together, ") +
                string.Create(CultureInfo.InvariantCulture, $"{sequences * one / seconds:0.0} times those of one."));
        }
        else if (details)
        {
            PrintSae();
        }
    }

    /// <summary>Of a step; its first launch begins when there is nothing to overlap with.</summary>
    private double Seconds(List<Row> rows) => rows.Sum(r => r.Times * (r.Seconds + Gap)) + LaunchTime - Gap;

    private List<Row> Rows(int position)
    {
        const int Query = Heads * HeadDim, KeyValue = KvHeads * HeadDim;
        int sliding = Layers / 2;
        Row global = Attend("attention, global", Layers - sliding, position + 1, 8192),
            window = Attend("attention, sliding", sliding, Math.Min(position + 1, Window), Window);
        List<Row> rows =
        [
            Serial("embed", 1, 2 * Width, 1),
            Gemv("q, k, v, RoPE, store", _cacheBytes == 2 ? "gemv_rope_bf16_bf16" : "gemv_rope_bf16", Layers,
                Query + (2 * KeyValue), Width, NormTime),
            global,
            window,
            WithNorm(Gemv("o, add, norm, norm", "gemv_norm_bf16", Layers, Width, Query, Math.Min(Idle(global), Idle(window)))),
            Gemv("gate and up", "gated_gemv_bf16_1row", Layers, 2 * Hidden, Width, NormTime),
            WithNorm(Gemv("down, add, norm, norm", "gemv_norm_bf16", Layers, Width, Hidden)),
            Serial("first norm", 1, 8 * Width, 1),
            Serial("copy of the final norm", 1, 8 * Width, 1),
            Gemv("head, soft-cap", "gemv_bf16_1row", 1, Vocabulary, Width),
            Serial("arg-max", 2, 4 * Vocabulary / 2, 2),
        ];
        return rows;
    }

    /// <summary>A step of several sequences: what reads weights reads them once, attention reads every sequence's keys.</summary>
    private List<Row> RowsOf(int position, int sequences)
    {
        const int Query = Heads * HeadDim, KeyValue = KvHeads * HeadDim;
        int sliding = Layers / 2, global = Layers - sliding;
        Row norms = Serial("add, norm, norm", 2 * Layers, 24.0 * Width * sequences, 2);
        Row[] attention = [.. Attends("attention, global", global, position + 1, 8192, sequences),
            .. Attends("attention, sliding", sliding, Math.Min(position + 1, Window), Window, sequences)];
        double merge = attention.Where(r => r.Name.EndsWith("merge", StringComparison.Ordinal)).Min(Idle);
        return
        [
            Serial("embed", 1, 2 * Width * sequences, 1),
            EightRows("q, k, v", "gemv_ring_bf16", Layers, Query + (2 * KeyValue), Width, Idle(norms), sequences),
            Serial("RoPE and store", Layers, 4.0 * (Query + (4 * KeyValue)) * sequences, 2),
            .. attention,
            EightRows("o", "gemv_ring_bf16", Layers, Width, Query, merge, sequences * Heads),
            norms,
            EightRows("gate and up", "gated_gemv_ring_bf16", Layers, 2 * Hidden, Width, Idle(norms), sequences),
            EightRows("down", _gpu.Architecture == "sm_90" ? "gemv_ring_split_bf16" : "gemv_ring_bf16", Layers, Width, Hidden),
            Serial("first norm, copy of the final norm", 2, 8 * Width * sequences, 1),
            EightRows("head, soft-cap", "gemv_ring_bf16", 1, Vocabulary, Width),
            Serial("arg-max", 2, 4.0 * Vocabulary * sequences / 2, 2),
        ];
    }

    private IEnumerable<Row> Attends(string name, int times, int keys, int capacity, int sequences)
    {
        Row part = Part(name, times, keys, capacity, sequences), merge = Merge(name + ", merge", times, keys, capacity);
        return [part, merge with { Bytes = merge.Bytes * sequences }];
    }

    /// <summary>
    /// Eight rows of x. While a stage of three outputs is multiplied four are under way. A warp's piece is 512 bytes of each output's weights, which pass through the L1 cache's memory twice, beside 8 KiB of
    /// x in loads of which each touches all lines for half of them, 128 cycles; behind the loop it writes and reads 160 sums of 32 lanes. x comes from the L2 cache once a group or, where its
    /// rows fit into what shared memory leaves of the L1 cache (100 KiB are taken), once a multiprocessor. Where a group's pieces are not a multiple of its four warps, one has more, in
    /// turns. What takes longest counts, on the multiprocessor with the most groups. Groups of the split form read a quarter of x; behind the products they publish their sums, take a ticket, and the last of four reads the sums of all, each an access to the L2 cache.
    /// </summary>
    /// <param name="name">What it does.</param>
    /// <param name="kernel">Which kernel.</param>
    /// <param name="times">Launches a token.</param>
    /// <param name="outputs">Outputs; a gate and its up are two.</param>
    /// <param name="inputs">Inputs.</param>
    /// <param name="idle">How long the kernel before leaves the memory idle; 0: it does not, or its groups take all room.</param>
    /// <param name="before">Groups of the kernel before, each of which takes the room of one of this kernel.</param>
    private Row EightRows(string name, string kernel, int times, int outputs, int inputs, double idle = 0, double before = 0)
    {
        (int resident, int threads, _, int tile) = Of(kernel);
        int warps = threads / 32, parts = kernel.Contains("split", StringComparison.Ordinal) ? 4 : 1,
            outputsOfGroup = kernel.StartsWith("gated", StringComparison.Ordinal) ? 2 * tile : tile / parts;
        double bytes = 2.0 * outputs * inputs, groups = parts * Math.Ceiling((double)outputs / (parts * outputsOfGroup)),
            most = Math.Ceiling(groups / _gpu.Multiprocessors), waves = Math.Ceiling(groups / _gpu.Multiprocessors / resident),
            pieces = Math.Ceiling(inputs / 8.0 / 32), rounds = Math.Floor(pieces / warps), instruction = 1 / _gpu.Clock;
        Row row = Streaming(name, times, bytes, groups, resident, threads, 12);
        // Before they wait, groups that find room start five stages of 6 KiB; what the memory delivers of them meanwhile need not pass the L2 cache again. What they then wait for is x, in that cache.
        double room = Math.Min(groups, (resident * _gpu.Multiprocessors) - before),
            early = _overlaps ? Math.Min(bytes, Math.Min(room * 5 * (6 << 10), idle * Rate)) : 0,
            latency = early > 0 ? CacheLatency : MemoryLatency;
        row = row with { Seconds = ((row.Seconds - MemoryLatency) * (1 - (early / bytes))) + latency };
        double x = 32.0 * inputs / parts, published = parts > 1 ? 2 * 32.0 * parts * outputs : 0;
        bool fits = parts == 1 && x <= _gpu.FirstCache - (100 << 10);
        double first = most * ((pieces * (128 + (8 * outputsOfGroup))) + (warps * 325)) / _gpu.Clock,
            second = (bytes - early + published + ((fits ? Math.Min(groups, _gpu.Multiprocessors) : groups) * x)) / SecondCacheRate,
            issue = ((((most * rounds) + Math.Ceiling(most * (pieces - (rounds * warps)) / warps)) * InstructionsOfPiece)
                + (most * InstructionsAroundPieces)) * instruction,
            chain = waves * ((Math.Ceiling(pieces / warps) * (CacheLatency + (InstructionsOfPiece * instruction)))
                + (InstructionsAroundPieces * instruction));
        foreach ((string what, double seconds) in ((string, double)[])[("the L1 cache", first), ("the L2 cache", second),
            ("instructions", issue), ("pieces of a warp, one after the other", chain)])
        {
            if (seconds + latency > row.Seconds)
                row = row with { Seconds = seconds + latency, Bound = what };
        }

        return parts == 1 ? row : row with { Seconds = row.Seconds + (3 * CacheLatency) };
    }

    /// <summary>An SAE of 16,384 features in float32 on one row: its encoder, the lists, and the decoder of 70 active features.</summary>
    private void PrintSae()
    {
        const int Features = 16_384, Active = 70;
        (int resident, int threads, int loads, _) = Of("sae_encode_f32_1row");
        Row encode = Streaming("SAE encode 16k f32, one row", 1, 4.0 * Features * Width, Features / 16.0, resident, threads,
            Math.Min(loads, 4));
        // Where the row's list begins and ends, the list, four rounds of sixteen and one of what is left; nothing is in a cache.
        double decode = 7 * MemoryLatency;
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
            $"SAE encode 16k f32, one row: {encode.Seconds * 1e6:0.0} µs, {encode.Bytes / Rate / encode.Seconds:0.00} of the copy rate ") +
            string.Create(CultureInfo.InvariantCulture, $"({encode.Bound}); its three launches for the lists ") +
            string.Create(CultureInfo.InvariantCulture, $"{3 * ((CacheLatency * 2) + Gap + MemoryLatency) * 1e6:0} µs; ") +
            string.Create(CultureInfo.InvariantCulture, $"decode of {Active} features: {decode * 1e6:0.0} µs."));
    }

    /// <summary>The first four loads of the main loop are weights (<c>kernels/Gemv.cs</c>); those behind are x, from a cache.</summary>
    /// <param name="name">What it does.</param>
    /// <param name="kernel">Which kernel.</param>
    /// <param name="times">Launches a token.</param>
    /// <param name="outputs">Outputs; a gate and its up are two.</param>
    /// <param name="inputs">Inputs.</param>
    /// <param name="idle">How long the kernel before leaves the memory idle, with room for groups of this one.</param>
    private Row Gemv(string name, string kernel, int times, int outputs, int inputs, double idle = 0)
    {
        (int resident, int threads, int loads, int tile) = Of(kernel);
        double bytes = 2.0 * outputs * inputs, blocks = Math.Ceiling((double)outputs / tile / (kernel.StartsWith("gated",
            StringComparison.Ordinal) ? 2 : 1));
        Row row = Streaming(name, times, bytes, blocks, resident, threads, kernel.StartsWith("gemv_norm", StringComparison.Ordinal) ? 4
            : Math.Min(loads, 4));
        if (!_overlaps || idle <= 0)
            return row;
        double asked = Math.Min(blocks, _gpu.Multiprocessors * resident) * 2 * Math.Min(4096, 2 * inputs),
            left = 1 - (Math.Min(asked, idle * Rate) / bytes);
        return row with { Seconds = ((row.Seconds - MemoryLatency) * Math.Max(left, Rate / SecondCacheRate)) + CacheLatency };
    }

    private double Idle(Row row) => Math.Max(0, row.Seconds - (row.Bytes / Rate));

    /// <summary>
    /// What the last group does behind a product: it takes its ticket, reads the branch twice and what it has made of resid once, a row of 2,304 in two rounds each, and waits
    /// for two sums.
    /// </summary>
    private static Row WithNorm(Row product) =>
        product with { Bytes = product.Bytes + (28 * Width), Seconds = product.Seconds + NormTime };

    /// <summary>The parts of all splits, and behind them, in the group that is done last, the merge.</summary>
    private Row Attend(string name, int times, int keys, int capacity)
    {
        Row part = Part(name, times, keys, capacity), merge = Merge(name, times, keys, capacity);
        return part with { Bytes = part.Bytes + (2 * merge.Bytes), Seconds = part.Seconds + merge.Seconds - MemoryLatency + CacheLatency };
    }

    private Row Part(string name, int times, int keys, int capacity, int sequences = 1)
    {
        // The loads of the key loop, which is the same in all forms: the largest loop of the launch that also merges is the merge's, and loads of 8 bytes are not counted.
        (_, _, int loads, _) = Of("attend_wide_part_2heads");
        (int resident, int threads, _, _) = Of("attend_" + (_cacheBytes == 2 ? "bf16_" : "") +
            (sequences == 1 ? "wide_whole_2heads" : "rows_wide_part_2heads"));
        int splits = Math.Min((capacity + KeysPerSplit - 1) / KeysPerSplit, MaxSplits),
            length = Math.Max(KeysPerSplit, (keys + splits - 1) / splits);
        double blocks = sequences * Math.Ceiling((double)keys / length) * Heads / 2,
            bytes = 2.0 * _cacheBytes * HeadDim * KvHeads * keys * sequences;
        // A lane's load of four values is half as long where they have two bytes.
        Row row = Streaming(name, times, bytes, blocks, resident, threads, loads * _cacheBytes / 4.0);
        // The next two keys are on their way while two are scored: a pair costs a warp a latency, or what its arithmetic takes. And each of a
        // multiprocessor's four schedulers gives out one instruction a cycle.
        double pairs = Math.Ceiling(length / (threads / 16.0)), chain = pairs * MemoryLatency * 0.6,
            issue = (double)sequences * keys * Heads / 2 * InstructionsOfKey / (4 * _gpu.Multiprocessors) / _gpu.Clock;
        if (Math.Max(chain, issue) <= row.Seconds)
            return row;
        return row with
        {
            Seconds = Math.Max(chain, issue),
            Bound = chain > issue ? FormattableString.Invariant($"{pairs:0} pairs of keys of a warp, one after the other") : "instructions",
        };
    }

    private static Row Merge(string name, int times, int keys, int capacity)
    {
        int splits = Math.Min((capacity + KeysPerSplit - 1) / KeysPerSplit, MaxSplits),
            length = Math.Max(KeysPerSplit, (keys + splits - 1) / splits), used = (keys + length - 1) / length;
        // Two heads at once: largest and sum, then sixteen parts at a time.
        return Serial(name, times, 4.0 * (HeadDim + 2) * Heads * used, 2 + ((used + 15) / 16));
    }

    private Row Streaming(string name, int times, double bytes, double blocks, int resident, int threads, double loads)
    {
        double needed = Rate * MemoryLatency / _gpu.Multiprocessors;
        double perProcessor = Math.Min(resident, blocks / _gpu.Multiprocessors), warps = perProcessor * threads / 32,
            flight = Math.Min(1, warps * 512 * loads / needed);
        double waves = blocks / (_gpu.Multiprocessors * resident), even = waves > 1 ? waves / Math.Ceiling(waves) : 1;
        string bound = flight < 1
            ? FormattableString.Invariant($"{warps:0.0} warps × {512 * loads / 1024:0.0} KiB of {needed / 1024:0} KiB") : even < 0.95
            ? FormattableString.Invariant($"{waves:0.00} waves") : "memory";
        return new Row(name, times, bytes, (bytes / Rate / (flight * even)) + MemoryLatency, bound);
    }

    private static Row Serial(string name, int times, double bytes, int steps) =>
        new(name, times, bytes, (steps * CacheLatency) + MemoryLatency,
        FormattableString.Invariant($"{steps} loads that wait for each other"));

    private (int Resident, int Threads, int Loads, int Tile) Of(string kernel)
    {
        JsonElement resources = _kernels.GetProperty(kernel).GetProperty(_gpu.Architecture);
        JsonElement info = _manifest.EnumerateArray().Single(k => k.GetProperty("name").GetString() == kernel);
        int loads = resources.TryGetProperty("loads_before_first_use", out JsonElement found) ? found.GetInt32() : 1;
        return (resources.GetProperty("blocks_per_sm").GetInt32(), info.GetProperty("group_size").GetInt32(), Math.Max(loads, 1),
            info.GetProperty("tile_columns").GetInt32());
    }

    /// <summary>One kind of launch.</summary>
    /// <param name="Name">What it does.</param>
    /// <param name="Times">Launches a token.</param>
    /// <param name="Bytes">What it must move.</param>
    /// <param name="Seconds">Estimate, without the launch.</param>
    /// <param name="Bound">What bounds it.</param>
    private sealed record Row(string Name, int Times, double Bytes, double Seconds, string Bound);
}
