using KernelScope.Evaluation;

namespace KernelScope.Web;

/// <summary>What <see cref="KernelScopeEndpoints.MapKernelScope"/> serves, to whom, and how much at once.</summary>
/// <remarks>Read once, when the endpoints are mapped. Not for several threads at once.</remarks>
public sealed class KernelScopeWebOptions
{
    /// <summary>What clients call the model; null: the last part of the engine's name, in lower case.</summary>
    public string? ModelId { get; set; }

    /// <summary>The key that every call but health and pages must carry; null: none.</summary>
    public string? Secret { get; set; }

    /// <summary>Names, beside this machine's own, that a Host header may have.</summary>
    public IList<string> AllowedHosts { get; } = [];

    /// <summary>Origins of pages elsewhere that may call, such as <c>http://localhost:3001</c>.</summary>
    public IList<string> Origins { get; } = [];

    /// <summary>Most tokens of a prompt.</summary>
    public int MaxPromptTokens { get; set; } = 1024;

    /// <summary>Most new tokens of an answer.</summary>
    public int MaxNewTokens { get; set; } = 256;

    /// <summary>Whether the pages are served, not the API alone.</summary>
    public bool Pages { get; set; } = true;

    /// <summary>Whether bodies of requests are logged. Never unless you ask for it.</summary>
    public bool LogText { get; set; }

    /// <summary>Labels of features; null: none.</summary>
    public FeatureLabels? Labels { get; set; }

    /// <summary>
    /// Texts over which feature pages count and from which they take examples; null: pages show what model and SAE say alone. Its codes
    /// are kept in memory, 8 bytes for each active feature of each position and source.
    /// </summary>
    public TokenSet? Corpus { get; set; }

    /// <summary>What pages call the corpus.</summary>
    public string CorpusName { get; set; } = "corpus";

    /// <summary>
    /// Folders that <c>kernelscope dash --out</c> wrote: feature pages of their sources are read from there, whatever <see cref="Corpus"/> is.
    /// </summary>
    public IList<string> Dashboards { get; } = [];

    /// <summary>Refuses what cannot be meant.</summary>
    /// <exception cref="ArgumentException">An option is out of its range.</exception>
    public void Validate()
    {
        if (MaxPromptTokens < 1)
            throw new ArgumentException($"MaxPromptTokens is {MaxPromptTokens}; it must be at least 1.");
        if (MaxNewTokens < 1)
            throw new ArgumentException($"MaxNewTokens is {MaxNewTokens}; it must be at least 1.");
        if (Secret is { Length: 0 })
            throw new ArgumentException("The secret is empty; leave it out, or give one.");
    }
}
