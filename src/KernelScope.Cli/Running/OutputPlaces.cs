using KernelScope.Files;

namespace KernelScope.Cli;

/// <summary>Refuses outputs that would destroy each other or an input, before any work.</summary>
internal static class OutputPlaces
{
    /// <summary>Checks outputs against each other and against inputs; null, '-' and what is no file are passed over.</summary>
    /// <param name="outputs">Options and their files.</param>
    /// <param name="inputs">Files that are read.</param>
    /// <exception cref="UsageException">Two are one file.</exception>
    public static void Require(IEnumerable<(string Option, string? Path)> outputs, params IEnumerable<string?> inputs)
    {
        (string Option, string Path)[] given = [.. outputs.Where(o => !string.IsNullOrEmpty(o.Path)).Select(o => (o.Option, o.Path!))];
        for (int i = 0; i < given.Length; i++)
        {
            for (int k = 0; k < i; k++)
            {
                if (FilePlace.IsSame(given[i].Path, given[k].Path))
                    throw new UsageException($"{given[k].Option} and {given[i].Option} name the same file, {Printable.Escape(given[i].Path)}; one of the two would be lost.");
            }

            foreach (string input in inputs.OfType<string>())
            {
                if (File.Exists(input) && FilePlace.IsSame(given[i].Path, input))
                    throw new UsageException($"{given[i].Option} names {Printable.Escape(given[i].Path)}, which is one of the inputs and would be lost; choose another place.");
            }
        }
    }
}
