using KernelScope.Hooks;

namespace KernelScope.Training;

/// <summary>Where in which model the rows come from: what exports say of an SAE beside its numbers.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public sealed record TrainedPlace
{
    /// <summary>The site of the inputs; null if it is not known.</summary>
    public HookPoint? Site { get; init; }

    /// <summary>The site of a transcoder's targets; null if it is not known, or for an SAE.</summary>
    public HookPoint? SiteOut { get; init; }

    /// <summary>The model's name; null if it is not known.</summary>
    public string? ModelName { get; init; }
}
