using KernelScope.Files;

namespace KernelScope.Cli;

/// <summary>Refuses outputs that would destroy each other or an input, before any work.</summary>
internal static class OutputPlaces
{
    /// <summary>Where the file is that a shell put on standard input, if it is one: writing there loses what is read.</summary>
    private const string StandardInputPath = "/proc/self/fd/0";

    /// <summary>Checks outputs against each other, against inputs and against the file on standard input; null and what is not a file are passed over.</summary>
    /// <param name="outputs">Options and their files.</param>
    /// <param name="inputs">Files that are read.</param>
    /// <exception cref="UsageException">Two are one file, or an output is '-'.</exception>
    public static void Require(IEnumerable<(string Option, string? Path)> outputs, params IEnumerable<string?> inputs)
    {
        (string Option, string Path)[] given = [.. outputs.Where(o => !string.IsNullOrEmpty(o.Path)).Select(o => (o.Option, o.Path!))];
        for (int i = 0; i < given.Length; i++)
        {
            if (given[i].Path == "-")
                throw new UsageException($"{given[i].Option} needs a file, and '-' is not one: standard output is for what is printed. " +
                    "A file of that name is ./-.");
            for (int k = 0; k < i; k++)
            {
                if (FilePlace.IsSame(given[i].Path, given[k].Path))
                    throw new UsageException($"{given[k].Option} and {given[i].Option} name the same " +
                        $"file, {Printable.Escape(given[i].Path)}; one of the two would be lost.");
            }

            foreach (string input in inputs.OfType<string>().Append(StandardInputPath))
            {
                if (File.Exists(input) && FilePlace.IsSame(given[i].Path, input))
                    throw new UsageException($"{given[i].Option} names {Printable.Escape(given[i].Path)}, which is one of the inputs " +
                        "and would be lost; choose another place.");
            }
        }
    }
}
