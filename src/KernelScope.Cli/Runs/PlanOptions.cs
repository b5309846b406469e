using System.CommandLine;
using System.Globalization;
using System.Reflection;
using KernelScope.Files;
using KernelScope.Hooks;
using KernelScope.Model;
using KernelScope.Training.Runs;

namespace KernelScope.Cli;

/// <summary>What a run is made of: corpus, sites, SAEs, what is left out, and how it is stored.</summary>
internal sealed class PlanOptions
{
    private const long DefaultShardBytes = 1L << 30;
    private readonly Option<string?> _sites = new("--sites")
    {
        Description = "Hook points whose activations are stored, with commas between them: resid_post.3,z.*,mlp_out_post.0-5; or all.",
        HelpName = "POINTS",
    };
    private readonly Option<string[]> _saes = new("--sae")
    {
        Description = "An SAE or transcoder whose codes are stored too, repeatable.",
        HelpName = "PATH",
    };
    private readonly Option<string?> _site = new("--site")
    {
        Description = "Where the SAE reads, if its path or cfg.json does not say so: resid_post.3.",
        HelpName = "POINT",
    };
    private readonly Option<bool> _codesOnly = new("--codes-only") { Description = "Codes of each --sae, and no activations." };
    private readonly Option<string> _dtype = new("--dtype")
    {
        Description = "How activations are stored: f32, or rounded to nearest even.",
        HelpName = "f32|bf16|f16",
        DefaultValueFactory = _ => "f32",
    };
    private readonly Option<bool> _keepSpecial = new("--keep-special")
    {
        Description = "Rows for BOS, EOS and padding too; by default there are none, as in the Gemma Scope paper.",
    };
    private readonly Option<string?> _excludeIds = new("--exclude-ids") { Description = "More ids without rows.", HelpName = "IDS" };
    private readonly Option<int> _skipFirst = new("--skip-first")
    {
        Description = "Positions at the beginning of each sequence without rows.",
        HelpName = "N",
    };
    private readonly Option<string?> _shardBytes = new("--shard-bytes")
    {
        Description = "Most bytes of a shard over all its files: 1000000, 500MB, 1GiB. Default: 1GiB.",
        HelpName = "B",
    };
    private readonly Option<int?> _shardSequences = new("--shard-sequences") { Description = "Most sequences of a shard.", HelpName = "N" };
    private readonly Option<long> _seed = new("--seed")
    {
        Description = "Seed of the order in which a reader serves the rows, unless it is told another.",
        HelpName = "S",
    };
    private readonly CorpusOptions _corpus;

    public PlanOptions(Command verb)
    {
        _corpus = new CorpusOptions(verb);
        _saes.CompletionSources.Add([.. Demo.SaeNames]);
        _dtype.CompletionSources.Add("f32", "bf16", "f16");
        _dtype.Validators.Add(r => Parsing.Require(r, _dtype, v => v is "f32" or "bf16" or "f16",
            "'{0}' is not a type of stored rows: there are f32, bf16 and f16."));
        _skipFirst.Validators.Add(r => Parsing.Require(r, _skipFirst, v => v is >= 0 and <= 1 << 24,
            "--skip-first is {0}; it must be 0 or more."));
        _shardSequences.Validators.Add(r => Parsing.Require(r, _shardSequences, v => v >= 1,
            "--shard-sequences is {0}; it must be 1 or more."));
        foreach (Option option in Own)
            verb.Options.Add(option);
    }

    /// <summary>Everything that a plan is made from.</summary>
    public Option[] All => [.. _corpus.All, .. Own];

    private Option[] Own => [_sites, _saes, _site, _codesOnly, _dtype, _keepSpecial, _excludeIds, _skipFirst, _shardBytes, _shardSequences,
        _seed];

    /// <summary>The SAEs that were named.</summary>
    public string[] SaesOf(ParseResult parsed) => parsed.GetValue(_saes) ?? [];

    /// <summary>Where SAEs read whose files do not say so.</summary>
    public HookPoint? SiteOf(ParseResult parsed) => parsed.GetValue(_site) is string text ? Parsing.Point(text, _site.Name) : null;

    /// <summary>What to plan with a model; its device class is filled in by whoever knows the device.</summary>
    public PlanRequest Request(ParseResult parsed, ModelFiles model, IReadOnlyList<SaeRecord> saes, ModelRecord record, string precision,
        string deviceClass)
    {
        (Corpus corpus, int context, bool packed) = _corpus.Open(parsed, model);
        return new PlanRequest
        {
            Corpus = corpus,
            Packed = packed,
            ShardBytes = BytesOf(parsed),
            ShardSequences = parsed.GetValue(_shardSequences),
            MaxSequences = _corpus.SequencesOf(parsed),
            MaxRows = _corpus.RowsOf(parsed),
            Plan = new RunPlan
            {
                Model = record,
                TokensSource = corpus.Source,
                TokensSha256 = "",
                TokenCount = 0,
                TokenizerSha256 = model.TokenizerSha256,
                Sites = Points(parsed, model),
                Saes = saes,
                Context = context,
                PadId = model.Config.PadId,
                ExcludedIds = Excluded(parsed, model),
                SkipFirst = parsed.GetValue(_skipFirst),
                RowType = parsed.GetRequiredValue(_dtype) switch { "bf16" => DType.BF16, "f16" => DType.F16, _ => DType.F32 },
                Precision = precision,
                DeviceClass = deviceClass,
                CodeVersion = Version(),
                CodeCommit = Commit(),
                Seed = parsed.GetValue(_seed),
                Shards = [],
            },
        };
    }

    /// <summary>The sites, in the order in which they fire.</summary>
    /// <exception cref="UsageException">None was named, or what was named contradicts itself.</exception>
    public SiteRecord[] Points(ParseResult parsed, ModelFiles model)
    {
        string? list = parsed.GetValue(_sites);
        if (parsed.GetValue(_codesOnly))
        {
            if (list is not null)
                throw new UsageException("--codes-only leaves the activations out, and --sites names some.");
            return SaesOf(parsed).Length > 0 ? [] : throw new UsageException("--codes-only needs --sae: whose codes?");
        }

        if (list is null)
            throw new UsageException("the sites are missing: --sites resid_post.3, or --codes-only with --sae.");
        int layers = model.Config.LayerCount;
        IEnumerable<HookPoint> points = list.Trim() == "all" ? HookPoint.All(layers)
            : list.Split(',').SelectMany(word => LayerRange.Expand(word.Trim(), layers)).Select(name => Parsing.Point(name, "--sites"));
        return [.. points.Distinct().OrderBy(Sites.Order).Select(p => Site(p, model))];
    }

    private static SiteRecord Site(HookPoint point, ModelFiles model)
    {
        Sites.Require(model, point);
        return HookPoint.IsOverKeys(point.Site)
            ? throw new WorkException($"{point} has one value for each head and key, so its rows have no fixed width and cannot be stored.")
            : new SiteRecord(point, Sites.WidthOf(model.Config, point));
    }

    private int[] Excluded(ParseResult parsed, ModelFiles model)
    {
        var ids = new SortedSet<int>();
        Gemma2Config config = model.Config;
        if (!parsed.GetValue(_keepSpecial))
            ids.UnionWith(((int[])[config.PadId, config.BosId, model.BosId, .. config.TextEndIds])
                .Where(id => id >= 0 && id < config.VocabSize));
        foreach (long id in parsed.GetValue(_excludeIds) is string list ? Parsing.TokenIds(list, "--exclude-ids") : [])
            ids.Add(id >= 0 && id < config.VocabSize ? (int)id
                : throw new WorkException($"--exclude-ids: {id} is outside the vocabulary of {model.Name}, which has ids 0 to " +
                    $"{config.VocabSize - 1}."));
        return [.. ids];
    }

    private long BytesOf(ParseResult parsed)
    {
        if (parsed.GetValue(_shardBytes) is not string text)
            return DefaultShardBytes;
        (string Unit, long Factor)[] units = [("GiB", 1L << 30), ("MiB", 1L << 20), ("KiB", 1L << 10), ("GB", 1_000_000_000),
            ("MB", 1_000_000), ("kB", 1000), ("", 1)];
        (string unit, long factor) = Array.Find(units, u => text.EndsWith(u.Unit, StringComparison.Ordinal));
        return long.TryParse(text[..^unit.Length].Trim(), NumberStyles.None, CultureInfo.InvariantCulture, out long number)
            && number is > 0 and < 1L << 20 || number > 0 && factor == 1
            ? number * factor : throw new UsageException($"--shard-bytes needs a size such as 500MB or 1GiB; this is " +
                $"'{Printable.Escape(text)}'.");
    }

    /// <summary>The program's version.</summary>
    public static string Version() => typeof(PlanOptions).Assembly.GetName().Version is Version v ? $"{v.Major}.{v.Minor}.{v.Build}" : "0";

    /// <summary>The commit that the program was built from.</summary>
    public static string Commit()
    {
        var version = typeof(PlanOptions).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>();
        string informational = version?.InformationalVersion ?? "";
        int plus = informational.IndexOf('+', StringComparison.Ordinal);
        return plus < 0 || plus + 1 == informational.Length ? "unknown" : informational[(plus + 1)..];
    }
}
