using KernelScope.Files;
using KernelScope.Hub;

namespace KernelScope.Cli;

/// <summary>What <c>--model</c> names, when it is not a folder that is there.</summary>
internal static class ModelName
{
    /// <summary>
    /// What <see cref="ModelFolder.Resolve(string)"/> finds: the name itself, or for a short name of a published model that is in the cache its whole one.
    /// </summary>
    /// <exception cref="WorkException">There is no such model here; the message gives the command that fetches it.</exception>
    public static string Resolve(string name)
    {
        if (Path.Exists(name) || RawFile.IsThere(name))
            return name;
        if (ReleasedModel.Find(name) is ReleasedModel released)
        {
            string places = string.Join(", ", Places(released.Name));
            return released.IsCached ? released.Name
                : throw new WorkException($"{name}: this model is not on this machine, neither as a folder nor in the hub's cache " +
                $"({places}); {released.HowToGet}.");
        }

        if (Places(name).Any(Directory.Exists))
            return name;
        string? near = Spelling.Nearest(name, ReleasedModel.All.SelectMany(m => new[] { m.Name, m.ShortName }));
        string advice = near is not null ? $"; near it is {ReleasedModel.Find(near)!.Name}: {ReleasedModel.Find(near)!.HowToGet}"
            : HubClient.IsRepository(name) ? $"; if it is a model of the hub, 'kernelscope pull {name}' fetches it" : "";
        string looked = string.Join(", ", Places(name).Prepend(name));
        throw new WorkException($"{name}: there is no such model; looked for the folder {looked}{advice}.");
    }

    /// <summary>Where the caches would have it; nothing for what is not a hub's name.</summary>
    private static IEnumerable<string> Places(string name) => HubCache.EntryName(name) is not string entry ? []
        : HubCache.Roots(Environment.GetEnvironmentVariable).Select(root => Path.Combine(root, entry));
}
