using System.Globalization;

namespace KernelScope.Bench;

/// <summary>What is being done, on standard error: one line that is written over on a terminal, a line for each thing elsewhere.</summary>
internal sealed class Progress
{
    private readonly bool _terminal = !Console.IsErrorRedirected;
    private string _doing = "";
    private int _percent = -1;
    private int _width;

    /// <summary>Says what is being done, and the share of it that is done where that is known.</summary>
    public void Show(string doing, double? share = null)
    {
        int percent = share is double done ? (int)(100 * done) : -1;
        if (doing == _doing && (!_terminal || percent == _percent))
            return;
        (_doing, _percent) = (doing, percent);
        string text = percent < 0 || !_terminal ? doing : string.Create(CultureInfo.InvariantCulture, $"{doing}: {percent} %");
        if (!_terminal)
        {
            Console.Error.WriteLine(text);
            return;
        }

        // Longer lines would wrap, and could not be written over.
        int room = Math.Max(20, Width() - 1);
        text = text.Length > room ? text[..room] : text;
        Console.Error.Write("\r" + text.PadRight(_width));
        _width = text.Length;
    }

    /// <summary>Clears the line, so that a result can be printed.</summary>
    public void Clear()
    {
        if (_terminal && _width > 0)
            Console.Error.Write("\r" + new string(' ', _width) + "\r");
        (_doing, _percent, _width) = ("", -1, 0);
    }

    private static int Width()
    {
        try
        {
            return Console.WindowWidth;
        }
        catch (IOException)
        {
            return 80;
        }
    }
}
