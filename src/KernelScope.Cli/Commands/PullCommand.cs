using System.CommandLine;
using KernelScope.Hub;

namespace KernelScope.Cli;

/// <summary><c>pull</c>: downloads models and SAEs into the hub's cache.</summary>
internal sealed class PullCommand : Verb
{
    private readonly Argument<string[]> _names = new("NAME")
    {
        Description = "A model, owner/name, or an SAE by a name that " +
        "'kernelscope catalog' lists; or owner/name/path, a file or an SAE's folder in any repository.",
        Arity = ArgumentArity.OneOrMore
    };
    private readonly Option<string> _revision = new("--revision")
    {
        Description = "A branch, a tag or a commit. Default: main.",
        HelpName = "R",
        DefaultValueFactory = _ => "main"
    };
    private readonly Option<string?> _cache = new("--cache")
    {
        Description = "The cache. Default: HF_HUB_CACHE, HF_HOME/hub, or " +
        "~/.cache/huggingface/hub.",
        HelpName = "DIR"
    };

    private readonly Option<bool> _verify = new("--verify")
    {
        Description = "Compare what is in the cache already with its checksums, " +
        "whatever its sizes and times say; what is damaged is fetched anew."
    };

    public PullCommand(CommonOptions common, VerbEnvironment environment) : base(
        "pull",
        "Downloads a model (config.json, generation_config.json, tokenizer.model, safetensors) or an SAE from a hub into the hub's own " +
        "cache, where --model and --sae find it by its name.\n" +
        "Checks sizes and checksums; goes on where an interrupted download ended. HF_ENDPOINT names another server, HF_TOKEN the token " +
        "that gated models such as Gemma need.",
        "  kernelscope pull google/gemma-2-2b gemma-scope-2b-pt-res/layer_20/width_16k/canonical",
        common,
        environment)
    {
        Arguments.Add(_names);
        Options.Add(_revision);
        Options.Add(_cache);
        Options.Add(_verify);
    }

    public override CommonUse Uses => CommonUse.Json;

    protected override int Run(ParseResult parsed)
    {
        string? cache = parsed.GetValue(_cache);
        if (cache is { Length: 0 })
            throw new UsageException("--cache is empty; it needs a folder.");
        string[] names = parsed.GetRequiredValue(_names);
        // All names first: a mistyped one should not show after an hour.
        PullPlan[] plans = [.. names.Select(PullPlan.For)];
        HubOptions options = HubOptions.FromEnvironment(Environment.GetEnvironmentVariable,
            cache) with
        { Verify = parsed.GetValue(_verify) };
        bool json = Common.JsonOf(parsed);
        var rows = new List<PulledRow>();
        using var client = new HubClient(options);
        for (int i = 0; i < plans.Length; i++)
        {
            PulledRow row = Pull(client, names[i], plans[i], parsed.GetRequiredValue(_revision));
            rows.Add(row);
            if (json)
                continue;
            Streams.Output.WriteLine(Printable.Escape(row.Path));
            Streams.Output.Flush();
        }

        if (json)
            JsonOutput.Write(Streams, new PullResult(options.CacheRoot, rows));
        return ExitCode.Done;
    }

    private PulledRow Pull(HubClient client, string name, PullPlan plan, string revision)
    {
        using var progress = new PullProgress(Streams);
        HubSnapshot snapshot = plan.RunAsync(client, revision, progress, Cancellation).GetAwaiter().GetResult();
        return new PulledRow(name, snapshot.Repository, snapshot.Revision, snapshot.Commit, plan.PathIn(snapshot),
            [.. snapshot.Files.Select(f => new PulledFile(f.Name, f.Path, f.Bytes, f.Received, f.Blob))]);
    }
}
